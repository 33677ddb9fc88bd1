"""The request body, counted while it arrives, and the files in it."""

from starlette.requests import ClientDisconnect, Request

from service.errors import (
    BodyTooLarge,
    InvalidParameter,
    MalformedBody,
    UnsupportedEncoding,
    UnsupportedMediaType,
    shown,
)
from service.http.multipart import split_multipart
from service.media_types import FORM_TYPE

# The magic bytes decide what a raw body is, so its Content-Type only has to be one that makes no other claim.
# curl sends application/x-www-form-urlencoded with --data-binary unless told otherwise.
_RAW_TYPES = {"", "application/octet-stream", "application/x-npy", "application/x-www-form-urlencoded"}


def media_type(request: Request) -> str:
    """The Content-Type without its parameters, lower case; empty where there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, *, max_body_bytes: int) -> bytes:
    """The whole body.

    Raises:
        MalformedBody: It is empty.
        RequestError: See `read_plain_body`.
    """
    if not (body := await read_plain_body(request, max_body_bytes=max_body_bytes)):
        raise MalformedBody("the body is empty")
    return body


async def read_plain_body(request: Request, *, max_body_bytes: int) -> bytes:
    """The whole body, which may be nothing.

    Raises:
        UnsupportedEncoding: It has a Content-Encoding.
        RequestError: See `read_raw_body`.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedEncoding(f"Content-Encoding is {shown(encoding)}; send the body without one")
    return await read_raw_body(request, max_body_bytes=max_body_bytes)


async def read_raw_body(request: Request, *, max_body_bytes: int) -> bytes:
    """The whole body as it was sent, which may be nothing.

    Raises:
        BodyTooLarge: The declared length, or what has arrived, is over the limit. The rest is not read.
        ClientDisconnect: The client left.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_body_bytes:
        raise _too_large(int(declared[:20]), max_body_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_body_bytes:
            raise _too_large(size, max_body_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_files(request: Request, *, max_body_bytes: int, max_files: int) -> list[bytes]:
    """The image or NPY files of a request: the raw body, or every field `file` of a form.

    Raises:
        UnsupportedMediaType: The Content-Type is of something else.
        InvalidParameter: A form has a field that is not `file`.
        MalformedBody, TooManyImages: A form that cannot be read, has no file or too many.
        RequestError: See `read_body`.
    """
    kind = media_type(request)
    if kind != FORM_TYPE and kind not in _RAW_TYPES and not kind.startswith("image/"):
        raise UnsupportedMediaType(
            f"Content-Type is {shown(kind)}; send image/png, image/jpeg, image/webp, image/gif, image/bmp, image/tiff, "
            f"application/x-npy, or {FORM_TYPE}"
        )
    body = await read_body(request, max_body_bytes=max_body_bytes)
    if kind != FORM_TYPE:
        return [body]
    parts = split_multipart(body, request.headers["content-type"], max_parts=max_files)
    if (unknown := next((part.name for part in parts if part.name != "file"), None)) is not None:  # it may be ""
        raise InvalidParameter(f"the form has a field {shown(unknown)}; images go into 'file', which may be repeated")
    if not parts:
        raise MalformedBody("the form has no fields; send the image as the field 'file'")
    return [part.content for part in parts]


def _too_large(size: int, limit: int) -> BodyTooLarge:
    # The rest of the body stays unread, so the connection cannot be used again.
    return BodyTooLarge(
        f"the body is {size} bytes or more, the limit is {limit} (setting max_body_bytes)",
        headers={"Connection": "close"},
    )
