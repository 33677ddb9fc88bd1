import asyncio
import csv
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.feedback_schemas import FeedbackAnswer, FeedbackListQuery, FeedbackQuery, KeptPicture
from service.api.openapi import NO_CONTENT, ZIP, problems, success
from service.api.openapi_bodies import FEEDBACK_BODY
from service.api.responses import Stream, json_response
from service.api.route import AdmittedRoute
from service.api.routes.common import IMAGE_ERRORS, STORE_ERRORS, ModelName
from service.api.service import Service, reserve, service_of
from service.collections.store import Store
from service.collections.store.feedback import PAGE, Files, Opinion, Picture, Totals, picture_of
from service.errors import (
    FeedbackFull,
    FeedbackNotFound,
    FeedbackOff,
    InvalidParameter,
    MalformedBody,
    NotAcceptable,
    StoreUnavailable,
    shown,
)
from service.http.admission import slot_of
from service.http.body import media_type, read_files, read_form
from service.http.negotiation import negotiate
from service.http.sent import header
from service.images.codec import decode_image
from service.images.formats import format_of
from service.images.inspect import ImageFile
from service.limits import InputLimits
from service.media_types import FORM_TYPE, JSON_TYPE, ZIP_TYPE
from service.tasks.cost import Cost, cost_of_reading

router = APIRouter(prefix="/models/{name}/feedback", tags=["models"], route_class=AdmittedRoute)
PictureId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the picture's file")]
_FOLDER_BY_VERDICT: dict[Opinion, str] = {"fine": "good", "defect": "defect"}
_MOST_MARKED = 0.9  # share of the picture; training takes a mask of more for an inverted one
_ROW_BYTES = 1024  # of a picture in a list, at most: as a row and as JSON
_COPIES = 2  # of the picture that is sent: as read, and as part of the archive
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest date a ZIP can hold: equal pictures give an equal archive


@router.post(
    "",
    operation_id="give_feedback",
    summary="Give feedback on a picture",
    status_code=201,
    response_class=Response,
    openapi_extra=FEEDBACK_BODY,
    responses={
        201: success("The picture is stored.", model=KeptPicture, headers=["X-Model"])[200],
        **problems(*IMAGE_ERRORS, FeedbackOff, FeedbackFull, StoreUnavailable),
    },
)
async def give_feedback(request: Request, name: ModelName, query: Annotated[FeedbackQuery, Query()]) -> Response:
    """Store a picture with an opinion on it, for the next version of the model.

    A new opinion on the same picture replaces the old one. A form may have a `mask` in addition to the `file`: an image
    of the same size, black where the part is fine. Pictures are stored only if the operator has set
    `max_feedback_bytes`. When the answer arrives, the picture is on disk.
    """
    service = service_of(request)
    max_bytes = service.settings.max_feedback_bytes
    if max_bytes == 0:  # the body stays unread, so the connection cannot be used again
        raise FeedbackOff(FeedbackOff.example, headers={"Connection": "close"})
    registry = service.registry
    model = await registry.find_version(registry.snapshot, name, query.version)
    files = await _read(request, service)
    if files.mask is not None and query.verdict == "fine":
        raise InvalidParameter(
            "a mask marks a defect, but verdict is 'fine'; leave the mask out, or send verdict=defect"
        )
    slot_of(request).start(request, 1)
    sent = [ImageFile.of(content) for content in (files.image, files.mask) if content is not None]
    await reserve(request, cost_of_reading(sent, service.limits))
    await asyncio.to_thread(_check, files, service.limits)
    picture = picture_of(
        hashlib.sha256(files.image).hexdigest(),
        query.verdict,
        model.manifest.version,
        query.who,
        has_mask=files.mask is not None,
    )
    await service.store.write(
        lambda store: store.feedback.put(model.manifest.name, picture, files, max_bytes=max_bytes)
    )
    return json_response(vars(picture), status=201, headers={"X-Model": model.label})


@router.get(
    "",
    operation_id="get_feedback",
    summary="List or export the feedback on a model",
    response_class=Response,
    responses={
        **success("One page of the pictures, or all of them in folders as a ZIP.", ZIP, model=FeedbackAnswer),
        **problems(*STORE_ERRORS, NotAcceptable),
    },
)
async def get_feedback(request: Request, name: ModelName, query: Annotated[FeedbackListQuery, Query()]) -> Response:
    """List the pictures with opinions, newest first, page by page.

    `Accept: application/zip` exports all of them: folders `good/`, `defect/` and `masks/` for `python -m training fit
    NAME --data good --defects defect`, and `feedback.csv` with verdicts, names and times.
    """
    service = service_of(request)
    max_bytes = service.settings.max_feedback_bytes
    kind = negotiate(header(request.scope, b"accept"), (JSON_TYPE, ZIP_TYPE))
    if kind == ZIP_TYPE:
        largest = await service.store.run(lambda store: store.feedback.largest(name))
        await reserve(request, Cost(_COPIES * largest))
        headers = {"Content-Disposition": 'attachment; filename="feedback.zip"'}
        return Stream(_archive(service, name), media_type=ZIP_TYPE, headers=headers)
    if max_bytes == 0:  # nobody need open the database to learn that nothing is kept
        return json_response(_document(name, 0, Totals(0, 0, 0), [], query.limit))
    await reserve(request, Cost(query.limit * _ROW_BYTES))
    totals = await service.store.run(lambda store: store.feedback.totals(name))
    pictures = await service.store.run(
        lambda store: store.feedback.pictures(name, after=query.after, limit=query.limit + 1)
    )
    return json_response(_document(name, max_bytes, totals, pictures, query.limit))


def _document(name: str, max_bytes: int, totals: Totals, pictures: Sequence[Picture], limit: int) -> object:
    page = pictures[:limit]
    return {
        "model": name,
        "is_kept": max_bytes > 0,
        **vars(totals),
        "max_bytes": max_bytes,
        "pictures": [vars(picture) for picture in page],
        "after": page[-1].place if len(pictures) > limit else None,
    }


@router.delete(
    "",
    operation_id="delete_all_feedback",
    summary="Delete the feedback on a model",
    status_code=204,
    response_class=Response,
    responses={**NO_CONTENT, **problems(*STORE_ERRORS)},
)
async def delete_all_feedback(request: Request, name: ModelName) -> Response:
    """Delete all pictures of a model, also while feedback is off."""
    await service_of(request).store.write(lambda store: store.feedback.clear(name))
    return Response(status_code=204)


@router.delete(
    "/{id}",
    operation_id="delete_feedback",
    summary="Delete one picture of the feedback",
    status_code=204,
    response_class=Response,
    responses={**NO_CONTENT, **problems(*STORE_ERRORS, FeedbackNotFound)},
)
async def delete_feedback(request: Request, name: ModelName, id: PictureId) -> Response:  # noqa: A002  its name on the wire
    """Delete one picture and the opinion on it."""
    await service_of(request).store.write(lambda store: store.feedback.remove(name, id))
    return Response(status_code=204)


async def _read(request: Request, service: Service) -> Files:
    """Read the picture, and its mask if there is one.

    Raises:
        RequestError: The body is something else.
    """
    if media_type(request) != FORM_TYPE:
        (image,) = await read_files(request, service.settings, max_files=1)
        return Files(image.content, None)
    parts = await read_form(request, service.settings, max_parts=2)
    content_by_name = {part.name: part.content for part in parts}
    if (unknown := next((name for name in content_by_name if name not in {"file", "mask"}), None)) is not None:
        raise InvalidParameter(
            f"the form has a field {shown(unknown)}; the picture goes into 'file', its mask into 'mask'"
        )
    if len(content_by_name) != len(parts) or "file" not in content_by_name:
        raise MalformedBody("the form needs one field 'file', and may have one field 'mask'")
    return Files(content_by_name["file"], content_by_name.get("mask"))


def _check(files: Files, limits: InputLimits) -> None:
    """Check that training can use both files, by decoding them.

    Raises:
        RequestError: One is not an image, they differ in size, or the mask marks nothing, or nearly everything.
    """
    decode = partial(decode_image, max_pixels=limits.max_pixels, max_frames=limits.max_frames)
    height, width = decode(files.image).size
    if files.mask is None:
        return
    mask = decode(files.mask)
    if mask.size != (height, width):
        raise InvalidParameter(
            f"the mask has {mask.size[1]}x{mask.size[0]} pixels, the picture {width}x{height}; send them in one size"
        )
    marked = float(mask.values.any(axis=1).mean())
    if not 0 < marked <= _MOST_MARKED:
        raise InvalidParameter(
            f"the mask marks {marked:.0%} of the picture; it must be black exactly where the part is fine"
        )


async def _archive(service: Service, name: str) -> AsyncIterator[bytes]:
    """Stream a ZIP of all pictures of a model, with one of them in memory at a time."""
    sink = _Sink()
    rows = [["file", "verdict", "version", "who", "created"]]
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        async for picture in _pictures(service, name):
            files = await service.store.run(partial(_files, name, picture))
            if files is None:  # deleted meanwhile
                continue
            path = f"{_FOLDER_BY_VERDICT[picture.verdict]}/{picture.id}.{_extension(files.image)}"
            archive.writestr(zipfile.ZipInfo(path, _LONG_AGO), files.image)
            if files.mask is not None:
                mask = f"masks/{picture.id}.{_extension(files.mask)}"
                archive.writestr(zipfile.ZipInfo(mask, _LONG_AGO), files.mask)
            rows.append([path, picture.verdict, str(picture.version), picture.who or "", picture.created])
            del files  # what waits for the client is the archive's copy alone
            yield sink.take()
        table = io.StringIO()
        csv.writer(table).writerows(rows)
        archive.writestr(zipfile.ZipInfo("feedback.csv", _LONG_AGO), table.getvalue())
    yield sink.take()


async def _pictures(service: Service, name: str) -> AsyncIterator[Picture]:
    """Yield the pictures of a model, newest first, with a page of them in memory."""
    after: str | None = ""
    while after is not None:
        page = await service.store.run(partial(_page, name, after))
        for picture in page:
            yield picture
        after = page[-1].place if len(page) == PAGE else None


def _page(name: str, after: str, store: Store) -> list[Picture]:
    return store.feedback.pictures(name, after=after)


def _files(name: str, picture: Picture, store: Store) -> Files | None:
    return store.feedback.files(name, picture.id)


def _extension(data: bytes) -> str:
    found = format_of(data)
    assert found is not None  # noqa: S101  nothing else was kept
    return found.extensions[0]


class _Sink(io.RawIOBase):
    """A write-only file whose contents are taken piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # zipfile writes bytes
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
