"""The request body, counted while it arrives, and the files in it."""

import asyncio
import io
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from service.errors import (
    BodyTooLarge,
    InvalidParameter,
    MalformedBody,
    TooManyImages,
    UnsupportedEncoding,
    UnsupportedMediaType,
    reason_of,
    shown,
    without_prefix,
)
from service.http.budget import Hold, hold_of
from service.http.json_images import read_json_images
from service.http.multipart import Part, split_multipart
from service.http.sent import header
from service.images.npy import NPY_MAGIC
from service.media_types import FORM_TYPE, JSON_TYPE
from service.settings import Settings

# The magic bytes decide what a raw body is, so its Content-Type only has to be one that makes no other claim.
# curl sends application/x-www-form-urlencoded with --data-binary unless told otherwise.
_RAW_TYPES = {"", "application/octet-stream", "application/x-npy", "application/x-www-form-urlencoded"}
_AHEAD_BYTES = 64 * 1024  # reserved for what comes next where no length was declared
_WORTH_READING_BYTES = 256 * 2**20
_SMALL_JSON_BYTES = 2**16  # read where they arrive: a thread would cost more
_SMALL_FORM_BYTES = 2**20  # split in 3 ms
_FORM_COPIES = 3  # of a form, while it is split: as read, in the parser, and its fields
_MAX_JSON_PARTS = 200_000  # two quotation marks a string; 256 latents are 257 lists, a tensor has few more


def media_type(request: Request) -> str:
    """Return the Content-Type without its parameters, lower case; empty if there is none."""
    return (header(request.scope, b"content-type") or "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Cap:
    """The largest size of a body in bytes, and the setting that limits it, if any."""

    max_bytes: int
    setting: str | None = None


# What tells a service to do something: as much as anyone has to say.
ORDER_CAP = Cap(64 * 1024)


def file_cap(settings: Settings) -> Cap:
    """Return the cap for files and arrays, which are checked before they are decoded."""
    return Cap(settings.max_body_bytes, "max_body_bytes")


def json_cap(settings: Settings) -> Cap:
    """Return the cap for JSON, which is parsed in one go in the event loop."""
    return min(Cap(settings.max_json_bytes, "max_json_bytes"), file_cap(settings), key=lambda cap: cap.max_bytes)


async def read_body(request: Request, cap: Cap) -> bytes:
    """Read the whole body.

    Raises:
        MalformedBody: The body is empty.
        RequestError: See `read_plain_body`.
    """
    if not (body := await read_plain_body(request, cap)):
        raise MalformedBody("the body is empty")
    return body


async def read_latents(request: Request, settings: Settings) -> bytes:
    """Read a body of latents: an NPY array, or JSON with the cap of JSON.

    Raises:
        RequestError: See `read_body`.
    """
    body = await read_body(request, json_cap(settings) if media_type(request) == JSON_TYPE else file_cap(settings))
    if not body.startswith(NPY_MAGIC):
        check_size(len(body), json_cap(settings))
    return body


async def read_plain_body(request: Request, cap: Cap) -> bytes:
    """Read the whole body, which may be empty.

    Raises:
        UnsupportedEncoding: The body has a Content-Encoding.
        RequestError: See `read_raw_body`.
    """
    encoding = (header(request.scope, b"content-encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedEncoding(f"Content-Encoding is {shown(encoding)}; send the body without one")
    return await read_raw_body(request, cap)


async def read_raw_body(request: Request, cap: Cap) -> bytes:
    """Read the whole body without decoding its Content-Encoding; it may be empty.

    Raises:
        BodyTooLarge: The declared length, or what has arrived, is over the cap. The rest is not read.
        QueueFull: The memory budget is used by other requests.
        ClientDisconnect: The client left.
    """
    declared = header(request.scope, b"content-length") or ""
    hold, held = hold_of(request), 0
    if declared.isascii() and declared.isdigit():
        check_size(held := int(declared[:20]), cap)
        hold.reserve(bytes=held)
    arriving: Arriving | None = None
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        is_last = not message.get("more_body", False)
        if is_last and arriving is None and len(piece) <= held:  # most bodies come in one piece
            return piece
        arriving = arriving or Arriving(hold, cap, held)
        arriving.add(piece)
        if is_last:
            return arriving.whole()


class Arriving:
    """The pieces of a body that have arrived, in one buffer, which the budget holds.

    Args:
        hold: What the request holds.
        cap: Limit of the body.
        held: Bytes of the body for which there is a reservation already.
    """

    def __init__(self, hold: Hold, cap: Cap, held: int = 0) -> None:
        self._hold, self._cap, self._held = hold, cap, held
        self._first = b""  # kept as it is, as long as it is the only one
        self._buffer: io.BytesIO | None = None
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Add the next piece.

        Raises:
            BodyTooLarge: The body exceeds the cap.
            QueueFull: The memory budget is used by other requests.
        """
        self._size += len(chunk)
        check_size(self._size, self._cap)
        if self._size > self._held:
            self._held = self._size + _AHEAD_BYTES
            self._hold.reserve(bytes=self._held)
        if not self._first:
            self._first = chunk
        elif chunk:
            if self._buffer is None:
                self._buffer = io.BytesIO()
                self._buffer.write(self._first)
            self._buffer.write(chunk)

    def whole(self) -> bytes:
        """Return all pieces together."""
        return self._first if self._buffer is None else self._buffer.getvalue()  # no copy: nothing else holds it


def check_size(size: int, cap: Cap) -> None:
    """Raise an error if a body of `size` bytes exceeds the cap.

    Raises:
        BodyTooLarge: The body exceeds the cap. The rest is read and discarded, so that a client that sends before it
            listens gets its answer; if it is very large, the connection is closed instead.
    """
    if size > cap.max_bytes:
        headers = {"Connection": "close"} if size > _WORTH_READING_BYTES else None
        by = f" (setting {cap.setting})" if cap.setting else ""
        raise BodyTooLarge(f"the body is {size} bytes or more, the limit is {cap.max_bytes}{by}", headers=headers)


def parse_json(data: bytes | memoryview, what: str = "the body") -> Any:  # noqa: ANN401  JSON of a stranger
    """Parse JSON. Everything that is more expensive than numbers is counted first.

    4 MiB of `[],` are a million lists: a third of a second of CPU in which no other thread runs.

    Raises:
        MalformedBody: The body is not JSON, or has too many parts. NaN, lone surrogates and deep nesting are rejected,
            too.
    """
    text = bytes(data)
    if (parts := sum(map(text.count, (b"[", b"{", b'"')))) > _MAX_JSON_PARTS:
        raise MalformedBody(f"{what} has {parts} brackets and quotation marks, the limit is {_MAX_JSON_PARTS}")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"{what} is not JSON: {reason_of(error)}") from error


def complaint(error: ValidationError) -> str:
    """Describe the first validation error: where it is, what is wrong, and the value found."""
    first = error.errors(include_url=False)[0]
    where = " ".join(shown(part)[1:-1] if isinstance(part, str) else str(part) for part in first["loc"][:8])
    return f"{where or 'the body'}: {without_prefix(first['msg'])}, found {shown(first['input'])}"


async def read_files(request: Request, settings: Settings, *, max_files: int, beside: str | None = None) -> list[Part]:
    """Read the image or NPY files of a request: the raw body, every field `file` of a form, or base64 in JSON.

    Args:
        request: Request with the body.
        settings: Settings with the limits of bodies and JSON.
        max_files: Maximum number of files.
        beside: Name of one more field that a form may have, once, beside its files.

    Raises:
        UnsupportedMediaType: The Content-Type is not supported.
        InvalidParameter: A form has a field that is not `file` or `beside`, or JSON has no images in base64.
        MalformedBody, TooManyImages: A form that cannot be read, has no file or too many.
        RequestError: See `read_body`.
    """
    kind = media_type(request)
    if kind == JSON_TYPE:
        body = await read_body(request, json_cap(settings))
        read = partial(_read_json, body, max_files)
        return read() if len(body) <= _SMALL_JSON_BYTES else await asyncio.to_thread(read)
    if kind != FORM_TYPE and kind not in _RAW_TYPES and not kind.startswith("image/"):
        raise UnsupportedMediaType(
            f"Content-Type is {shown(kind)}; send image/png, image/jpeg, image/webp, image/gif, image/bmp, image/tiff, "
            f"image/avif, image/heic, application/x-npy, {FORM_TYPE}, or {JSON_TYPE}"
        )
    if kind != FORM_TYPE:
        return [Part("file", await read_body(request, file_cap(settings)))]
    parts = await read_form(request, settings, max_parts=max_files + (beside is not None))
    known = {"file", beside or "file"}
    if (unknown := next((part.name for part in parts if part.name not in known), None)) is not None:  # it may be ""
        also = f", {shown(beside)} may be one more field" if beside else ""
        raise InvalidParameter(
            f"the form has a field {shown(unknown)}; images go into 'file', which may be repeated{also}"
        )
    files = sum(part.name == "file" for part in parts)
    if not files:
        raise MalformedBody("the form has no fields 'file'; send the image as the field 'file'")
    if files > max_files:
        raise TooManyImages(f"the form has more than {max_files} files (setting max_images)")
    if len(parts) > files + 1:
        raise InvalidParameter(f"the form has {len(parts) - files} fields {shown(beside)}; send one for all files")
    return parts


async def read_form(request: Request, settings: Settings, *, max_parts: int) -> list[Part]:
    """Read the fields of a form, in order. A large one is split in a thread.

    Raises:
        RequestError: See `read_body` and `split_multipart`.
    """
    body = await read_body(request, file_cap(settings))
    split = partial(split_multipart, body, header(request.scope, b"content-type") or "", max_parts=max_parts)
    if len(body) <= _SMALL_FORM_BYTES:
        return split()
    hold_of(request).reserve(bytes=_FORM_COPIES * len(body))
    return await asyncio.to_thread(split)


def _read_json(body: bytes, max_files: int) -> list[Part]:
    return [Part("file", content) for content in read_json_images(parse_json(body), max_files=max_files)]
