# ruff: noqa: N818  a name says what is wrong; "Error" after every one of them adds nothing
"""Everything that can go wrong, one class per thing a caller can get wrong.

    HourglassError
    ├── StartupError                the service refuses to start
    │   ├── InvalidSettings         an unknown setting or a value out of range
    │   ├── CannotListen            the address or port is taken, or not this machine's
    │   ├── NoTemporaryDirectory    several workers without a directory for shared counters
    │   ├── TracingUnavailable      a collector is configured, but the exporter is not installed
    │   └── ProviderUnavailable     device=cuda without a working CUDA provider
    ├── ModelRejected               a model version that must not go live
    └── RequestError                a failed request: a status, a stable code, a message
        ├── MalformedBody           400  multipart or JSON that cannot be read
        ├── MissingApiKey           401  with WWW-Authenticate; only where api_keys is set
        ├── WrongApiKey             403  an unknown key
        ├── KeyNotEnough            403  a key without this permission
        ├── TooManyGuesses          429  wrong keys from one address
        ├── WrongHost               421  allowed_hosts
        ├── UnloadRefused           403  models follow their directory
        ├── MalformedRequest        400  not HTTP
        ├── RouteNotFound           404
        ├── ModelNotFound           404
        ├── VersionNotFound         404
        ├── AliasNotFound           404  of a model
        ├── ModelFileNotFound       404  no card, or no preview
        ├── CollectionNotFound      404
        ├── ItemNotFound            404  the collection is there
        ├── FeedbackNotFound        404
        ├── JobNotFound             404
        ├── TrainingNotFound        404
        ├── MethodNotAllowed        405  with Allow
        ├── NotAcceptable           406  the endpoint cannot answer in what Accept asks for
        ├── RequestTimeout          408  body_timeout_s
        ├── OtherDecoder            409  a compressed file of another decoder or other tables
        ├── ModelConflict           409  the collection's vectors are another model version's
        ├── NoLabels                409  no item of the collection has a label
        ├── CollectionFull          409  max_collections, max_items
        ├── TooManyAliases          409  16 per model
        ├── NoFormerVersion         409  the alias has no previous version
        ├── FeedbackOff             409  max_feedback_bytes is 0
        ├── FeedbackFull            409  max_feedback_bytes
        ├── JobNotDone              409  the result is not available yet
        ├── NoTrainingWorker        409  no worker asks for trainings
        ├── TrainingBusy            409  one training of a model at a time
        ├── TrainingNotReady        409  no version to approve yet
        ├── BodyTooLarge            413  max_body_bytes, max_json_bytes
        ├── TooManyPixels           413  max_pixels
        ├── TooManyImages           413  max_images
        ├── TooMuchMemory           413  max_request_memory_bytes
        ├── TooMuchWork             413  four times request_timeout_s; not for jobs
        ├── UnsupportedMediaType    415  not an image format or array we read
        ├── UnsupportedEncoding     415  a Content-Encoding
        ├── InvalidParameter        422  in the query, or in a body of JSON
        ├── TaskNotOffered          422  the model cannot do that
        ├── BrokenImage             422  truncated, corrupt, or a bomb
        ├── UnsupportedImage        422  a valid file that decoding would degrade
        ├── BrokenContainer         422  a compressed file that is truncated or damaged
        ├── SizeMismatch            422  the model takes one size only
        ├── InvalidArray            422  NPY: header, dtype, shape or values
        ├── InvalidLatent           422  JSON or NPY latents
        ├── InvalidMetadata         422  of an item
        ├── UnreachableRate         422  max_fpr below what the calibration can resolve
        ├── NonFiniteResult         422  the result is NaN or infinite
        ├── HeadersTooLarge         431  max_header_bytes
        ├── InternalError           500  a bug; the log has the details under the request id
        ├── JobLost                 500  its workers ended, one after the other
        ├── ImageUnreachable        502  image=https://...
        ├── NotReady                503  no model is live yet
        ├── QueueFull               503  max_queue_images
        ├── StoreUnavailable        503  collections_url
        ├── JobsFull                503  max_jobs, max_jobs_bytes
        ├── Draining                503  the service is stopping
        └── DeadlineExceeded        504  request_timeout_s

A `RequestError` becomes `application/problem+json` (RFC 9457). Adding one here adds it to `PROBLEMS`, to the OpenAPI
page of the endpoints that name it, and to `GET /problems/{code}`. `python -m service.api.reference` writes
docs/errors.md, which `/help` shows.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic import JsonValue

PROBLEM_JSON = "application/problem+json"


class HourglassError(Exception):
    """Base class of all errors that the service raises on purpose."""


class StartupError(HourglassError):
    """The service cannot start. The message says what to change."""


class InvalidSettings(StartupError):
    """A setting that does not exist, or a value it cannot have."""


class CannotListen(StartupError):
    """The address and port cannot be listened on."""


class NoTemporaryDirectory(StartupError):
    """Several workers need a directory for temporary files."""


class TracingUnavailable(StartupError):
    """Tracing is requested, but OpenTelemetry is not installed."""


class ProviderUnavailable(StartupError):
    """The requested execution provider is not available."""


class ModelRejected(HourglassError):
    """A model version failed its checks and does not go live. The message gives the reason."""


class RequestError(HourglassError):
    """One request cannot be answered as asked.

    Args:
        detail: What happened, with which value, and what would work.
        headers: Extra response headers.
        extra: Extra members of the problem document.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    example: ClassVar[str]

    def __init__(
        self, detail: str, *, headers: dict[str, str] | None = None, extra: dict[str, JsonValue] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra or {}

    def problem(self) -> dict[str, JsonValue]:
        """Return the problem document (RFC 9457); safe to serialise whatever the caller sent."""
        return {
            **problem_head(type(self)),
            "detail": printable(self.detail),
            **{name: _safe(value) for name, value in self.extra.items()},
        }


class MalformedBody(RequestError):
    """The body is empty, or is not the form or JSON that its Content-Type says."""

    status, code, title = 400, "malformed-body", "The body cannot be read"
    example = "the multipart body ends without its closing boundary '--XyZ--'; was it cut off?"


class MissingApiKey(RequestError):
    """The service requires a key (settings `api_keys`, `write_keys`, `read_keys`) and the request has none."""

    status, code, title = 401, "missing-api-key", "An API key is needed"
    example = "this service requires an API key; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"


class WrongApiKey(RequestError):
    """The service does not know the key of the request."""

    status, code, title = 403, "wrong-api-key", "Wrong API key"
    example = "the API key is not valid here; was it mistyped or replaced?"


class KeyNotEnough(RequestError):
    """The key may only read, or only write, and this request needs more.

    The message names the settings that allow it.
    """

    status, code, title = 403, "key-not-enough", "Too few rights"
    example = (
        "the key may only read, but DELETE '/collections/parts' needs one that may write (setting write_keys or "
        "api_keys)"
    )


class TooManyGuesses(RequestError):
    """Ten wrong keys came from this address within a minute. Retry after `Retry-After`."""

    status, code, title = 429, "too-many-guesses", "Too many wrong keys"
    example = "10 wrong keys came from '203.0.113.7' within a minute; wait a minute"


class WrongHost(RequestError):
    """The Host header names a host that is not in the setting `allowed_hosts`."""

    status, code, title = 421, "wrong-host", "Unknown host"
    example = (
        "the request is for 'evil.example', which is not a name of this service; add it to the setting allowed_hosts"
    )


class UnloadRefused(RequestError):
    """A client of the Open Inference Protocol asked to unload a model. Models follow their directory."""

    status, code, title = 403, "unload-refused", "Models follow their directory"
    example = "models follow the directory models_dir; remove 'digits' from it to unload it"


class RouteNotFound(RequestError):
    """There is no such page or endpoint."""

    status, code, title = 404, "route-not-found", "No such endpoint"
    example = "no endpoint '/denoize'; GET /docs lists all of them"


class ModelNotFound(RequestError):
    """No model of that name is live. The message names the live models."""

    status, code, title = 404, "model-not-found", "No such model"
    example = "no model 'digit'; live models: digits, digits-unet"


class VersionNotFound(RequestError):
    """The model has no such version, or the version failed its checks. The message gives the reason."""

    status, code, title = 404, "version-not-found", "No such model version"
    example = "model 'digits' has no version 7; it has 1, 2"


class AliasNotFound(RequestError):
    """The model has no alias of that name. The message names those that it has."""

    status, code, title = 404, "alias-not-found", "No such alias"
    example = "model 'hazelnut' has no alias 'prd'; it has prod, test"


class ModelFileNotFound(RequestError):
    """The model was published without this file, such as its card or its preview."""

    status, code, title = 404, "model-file-not-found", "The model has no such file"
    example = "model digits/5 has no preview.png"


class CollectionNotFound(RequestError):
    """There is no collection of that name. The message names some that exist."""

    status, code, title = 404, "collection-not-found", "No such collection"
    example = "no collection 'part'; existing ones: parts, screws. Storing an item creates one"


class ItemNotFound(RequestError):
    """The collection has no item with that id."""

    status, code, title = 404, "item-not-found", "No such item"
    example = "collection 'parts' has no item 'a17'; GET /collections/parts/items lists them"


class FeedbackNotFound(RequestError):
    """The feedback of the model has no image with that id."""

    status, code, title = 404, "feedback-not-found", "No such feedback"
    example = "model 'digits' has no feedback '9f86d081'; GET /models/digits/feedback lists them"


class FeedbackOff(RequestError):
    """The service stores no images: the setting `max_feedback_bytes` is 0."""

    status, code, title = 409, "feedback-off", "Feedback is off"
    example = "feedback is off; the operator can turn it on with the setting max_feedback_bytes"


class FeedbackFull(RequestError):
    """The images of all feedback would exceed `max_feedback_bytes`. Nothing was stored."""

    status, code, title = 409, "feedback-full", "No room for more feedback"
    example = (
        "the pictures of all feedback would take 1073812480 bytes, the limit is 1073741824 (setting "
        "max_feedback_bytes); export them, then DELETE /models/digits/feedback"
    )


class JobNotFound(RequestError):
    """No job has that id. It was deleted, has expired, or belongs to another key."""

    status, code, title = 404, "job-not-found", "No such job"
    example = "no job 'q83vEjRWeJo'; ended jobs are deleted after job_keep_s"


class JobNotDone(RequestError):
    """The job is waiting or running and has no result yet. Retry after `Retry-After`."""

    status, code, title = 409, "job-not-done", "The job has not ended"
    example = "job 'q83vEjRWeJo' is running, 3 of 20 steps are done; retry later, or follow its events"


class TrainingNotFound(RequestError):
    """The model has no training of that id: it was cancelled, discarded, or replaced by newer ones."""

    status, code, title = 404, "training-not-found", "No such training"
    example = "model 'digits' has no training 'q83vEjRWeJo'; GET /models/digits/training lists them"


class NoTrainingWorker(RequestError):
    """No training worker has asked for work recently."""

    status, code, title = 409, "no-training-worker", "No training worker is running"
    example = (
        "no training worker is connected to this service; start one with `python -m training worker --service URL`, or "
        "run `python -m training calibrate digits --feedback URL` yourself"
    )


class TrainingBusy(RequestError):
    """Another training of the model is queued or running."""

    status, code, title = 409, "training-busy", "Already in training"
    example = (
        "model 'digits' has the training 'q83vEjRWeJo', which is queued or running; wait for it, or cancel it with "
        "DELETE /models/digits/training/{id}"
    )


class TrainingNotReady(RequestError):
    """The training has made no version yet, or its version was approved already."""

    status, code, title = 409, "training-not-ready", "Nothing to approve"
    example = "the training is 'running'; only one that is ready can be approved"


class ModelConflict(RequestError):
    """The vectors of the collection are of another model version, or of one that is gone.

    The message gives the command that rebuilds it.
    """

    status, code, title = 409, "model-conflict", "Vectors of another model"
    example = (
        "collection 'parts' has vectors of digits/1, not of digits/2; leave model and version out, or rebuild it with "
        "`python -m service rebuild FOLDER --collection parts --model digits`"
    )


class NoLabels(RequestError):
    """No item of the collection has a label, so `classify` has nothing to vote with."""

    status, code, title = 409, "no-labels", "Nothing has a label"
    example = "no item of collection 'parts' has a label; store some with ?label="


class CollectionFull(RequestError):
    """The request would exceed `max_items`, `max_collections` or `max_collections_bytes`. Nothing was stored."""

    status, code, title = 409, "collection-full", "No room for more"
    example = "collection 'parts' would have 1000001 items, the limit is 1000000 (setting max_items); delete some"


class TooManyAliases(RequestError):
    """A model may have 16 aliases. Nothing was changed."""

    status, code, title = 409, "too-many-aliases", "No room for more aliases"
    example = "model 'hazelnut' has 16 aliases, the limit; DELETE an unused one"


class NoFormerVersion(RequestError):
    """The alias has neither a candidate nor a previous version, or was rolled back already."""

    status, code, title = 409, "no-former-version", "Nothing to roll back to"
    example = (
        "alias 'prod' of model 'hazelnut' names version 3 and has neither a candidate nor a previous version; PUT "
        "the version that it should name"
    )


class MethodNotAllowed(RequestError):
    """The endpoint supports other methods. `Allow` lists them."""

    status, code, title = 405, "method-not-allowed", "Method not allowed"
    example = "GET does not work on '/denoise'; use POST"


class NotAcceptable(RequestError):
    """`Accept` allows none of the formats of this answer. The message lists them."""

    status, code, title = 406, "not-acceptable", "Cannot answer in that format"
    example = (
        "Accept is 'audio/ogg'; this answer can be image/png, image/jpeg, image/webp, image/tiff, application/x-npy"
    )


class MalformedRequest(RequestError):
    """The request is not HTTP/1.1. The connection is closed."""

    status, code, title = 400, "malformed-request", "This is not HTTP"
    example = "this is not HTTP: Invalid method encountered"


class RequestTimeout(RequestError):
    """The body did not arrive within `body_timeout_s` of the headers. The connection is closed."""

    status, code, title = 408, "request-timeout", "The body took too long"
    example = "the body did not arrive within 30 s of the headers (setting body_timeout_s)"


class OtherDecoder(RequestError):
    """The compressed file was made with another decoder or other tables than its model version has here."""

    status, code, title = 409, "other-decoder", "The file needs another decoder"
    example = (
        "the file was made by digits-compressed/1 with the decoder 3f0ab6c1, but here it has 91bb07de; "
        "restore the version that made it in models_dir"
    )


class HeadersTooLarge(RequestError):
    """Request line and headers exceed `max_header_bytes`.

    Trailers and chunk extensions count, too. The connection is closed.
    """

    status, code, title = 431, "headers-too-large", "The headers are too large"
    example = "the request line and headers exceed 32768 bytes (setting max_header_bytes)"


class BodyTooLarge(RequestError):
    """The body exceeds `max_body_bytes`, or its JSON `max_json_bytes`.

    The rest is discarded; if it is very large the connection is closed.
    """

    status, code, title = 413, "body-too-large", "The body is too large"
    example = "the body is 200000000 bytes or more, the limit is 134217728 (setting max_body_bytes)"


class TooManyPixels(RequestError):
    """The image, array or form exceeds `max_pixels`, or a tensor of `/v2` exceeds a megapixel.

    Nothing was decoded.
    """

    status, code, title = 413, "too-many-pixels", "Too many pixels"
    example = "the image is 9000x9000, 81000000 pixels; the limit is 25000000 (setting max_pixels)"


class TooManyImages(RequestError):
    """The request, file or search asks for too many.

    The limits are `max_images` images, `max_frames` frames and 4096 neighbours of a search.
    """

    status, code, title = 413, "too-many-images", "Too many images"
    example = "the array holds 300 images, the limit is 256 (setting max_images)"


class TooMuchMemory(RequestError):
    """The request is expected to need more memory than `max_request_memory_bytes`.

    Nothing was decoded. The message says what needs less: another format of the answer or the file, or a smaller image.
    """

    status, code, title = 413, "too-much-memory", "Too much memory for one request"
    example = (
        "the request is expected to need 2794 MiB of memory, the limit is 1280 MiB (setting max_request_memory_bytes); "
        "request an image instead of an array (Accept: image/png), or send it in parts"
    )


class TooMuchWork(RequestError):
    """The request is expected to take more CPU time than four times `request_timeout_s`.

    Nothing was decoded. Send it as a job, with the header `Prefer: respond-async`: jobs have no such limit.
    """

    status, code, title = 413, "too-much-work", "Too much work for one answer"
    example = (
        "the request is expected to take 380 s of CPU time, the limit is 120 s (4 x the setting request_timeout_s); "
        "send it as a job, with the header Prefer: respond-async"
    )


class UnsupportedMediaType(RequestError):
    """Neither the Content-Type nor the first bytes of the body are of a format this endpoint reads."""

    status, code, title = 415, "unsupported-media-type", "Unsupported media type"
    example = "the image starts with b'%PDF-1.7', which is not a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC file"


class UnsupportedEncoding(RequestError):
    """The body has a Content-Encoding. Send it without one; below `/v2` gzip and deflate are accepted."""

    status, code, title = 415, "unsupported-encoding", "Unsupported content encoding"
    example = "Content-Encoding is 'gzip'; send the body without one"


class InvalidParameter(RequestError):
    """A query parameter, JSON member or form field is unknown or has an invalid value."""

    status, code, title = 422, "invalid-parameter", "Invalid parameter"
    example = "query 'version': Input should be a valid integer, unable to parse string as an integer, found 'abc'"


class TaskNotOffered(RequestError):
    """The model does not offer this task, or several models do and none is the default."""

    status, code, title = 422, "task-not-offered", "The model cannot do that"
    example = "model 'digits-unet' cannot encode; it offers denoise; digits can encode"


class BrokenImage(RequestError):
    """The image file is truncated, damaged, or built to exhaust a decoder."""

    status, code, title = 422, "broken-image", "The image is broken"
    example = "PNG: chunk 'IDAT' has a wrong checksum; the file is damaged"


class UnsupportedImage(RequestError):
    """The image file is valid, but decoding it would lose something silently, such as 16 bits with transparency."""

    status, code, title = 422, "unsupported-image", "Unsupported kind of image"
    example = (
        "PNG: 16 bits with transparency would silently lose the lower 8; send 8 bits, 16-bit grey or RGB, or an NPY "
        "array"
    )


class BrokenContainer(RequestError):
    """The compressed file is truncated, damaged, of a later format, or was not made by `/compress`."""

    status, code, title = 422, "broken-container", "The compressed file is broken"
    example = "the file has CRC32 00c0ffee, its header says 1badb002: it is truncated or damaged"


class SizeMismatch(RequestError):
    """The image does not have the size of the model, and the model's resize policy is "reject"."""

    status, code, title = 422, "size-mismatch", "The image has the wrong size"
    example = "the image is 640x480, the model takes exactly 28x28"


class InvalidArray(RequestError):
    """The NPY array has an unsupported header, type, shape, length or value."""

    status, code, title = 422, "invalid-array", "Invalid array"
    example = "the array is complex64; send float32 with pixels in [0, 1], uint8, or uint16"


class InvalidLatent(RequestError):
    """The latents have the wrong shape, length or values."""

    status, code, title = 422, "invalid-latent", "Invalid latent"
    example = "the latent has 31 numbers, the model has 32"


class InvalidMetadata(RequestError):
    """`X-Metadata` is not a JSON object, exceeds 8 KiB, or is nested more than 8 levels deep."""

    status, code, title = 422, "invalid-metadata", "Invalid metadata"
    example = """X-Metadata is [1, 2]; send a JSON object, such as {"lot": 12}"""


class UnreachableRate(RequestError):
    """`max_fpr` is smaller than the model's calibration can promise."""

    status, code, title = 422, "unreachable-rate", "False-positive rate out of reach"
    example = "max_fpr=1e-06 is below 0.000167, the smallest rate that 5999 calibration scores can promise"


class NonFiniteResult(RequestError):
    """The model returned NaN or infinity for this input."""

    status, code, title = 422, "non-finite-result", "The result is not finite"
    example = (
        "digits/1 denoise returned NaN or infinity for this input; send images or latents like those it was trained on"
    )


class InternalError(RequestError):
    """A fault of the service. The log has the cause under `request_id`."""

    status, code, title = 500, "internal-error", "Internal error"
    example = "an internal error; the log has the details under request id 4bf92f3577b34da6"


class JobLost(RequestError):
    """The processes that worked on the job ended before it was done."""

    status, code, title = 500, "job-lost", "The job's workers ended"
    example = (
        "3 workers started this job and ended before it was done; send less at once, or ask the operator to look at "
        "the log"
    )


class ImageUnreachable(RequestError):
    """The host in `image` did not send an image: it failed, was too slow, or redirected."""

    status, code, title = 502, "image-unreachable", "The image cannot be fetched"
    example = "'images.example' answers 302; redirects are not followed"


class NotReady(RequestError):
    """No model is live yet. Retry after `Retry-After`."""

    status, code, title = 503, "not-ready", "Not ready"
    example = "no model is live in models; train one with `python -m training fit digits`"


class QueueFull(RequestError):
    """More images are waiting than `max_queue_images` allows. The body was not read. Retry after `Retry-After`."""

    status, code, title = 503, "queue-full", "The queue is full"
    example = "256 images are waiting and 1 more do not fit, the limit is 256 (setting max_queue_images)"


class StoreUnavailable(RequestError):
    """The database of the collections is locked, full, read-only, damaged or unreachable.

    Other endpoints still answer. Retry after `Retry-After`.
    """

    status, code, title = 503, "store-unavailable", "The collections are unavailable"
    example = (
        "the collections in /data/items.db cannot be used: file is not a database; check free space and "
        "write permission"
    )


class JobsFull(RequestError):
    """The queue of jobs has reached `max_jobs` or `max_jobs_bytes`. Retry after `Retry-After`."""

    status, code, title = 503, "jobs-full", "No room for more jobs"
    example = "1000 jobs are stored, the limit is 1000 (setting max_jobs); DELETE /jobs/{id} makes room"


class Draining(RequestError):
    """The service is shutting down. Retry on a new connection."""

    status, code, title = 503, "draining", "The service is stopping"
    example = "the service is stopping and accepts no new requests"


class DeadlineExceeded(RequestError):
    """There was no answer, and no tile or file was done, within `request_timeout_s`; long work has more time.

    Queued work of the request was dropped. Work that makes progress ends after `max_request_s`.
    """

    status, code, title = 504, "deadline-exceeded", "Deadline exceeded"
    example = (
        "no answer 30 s after the request (settings request_timeout_s and max_request_s); its queued work was "
        "dropped; a job has more time (header Prefer: respond-async)"
    )


_LONGEST_INTEGER_BITS = 256  # Python refuses to write those of 4300 digits
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

PROBLEMS: dict[str, type[RequestError]] = {error.code: error for error in RequestError.__subclasses__()}


def problem_head(error: type[RequestError]) -> dict[str, JsonValue]:
    """Return the members of a problem that are the same for all errors of a class."""
    return {"type": f"/problems/{error.code}", "title": error.title, "status": error.status, "code": error.code}


def problem_bytes(problem: JsonValue) -> bytes:
    """Return a problem as ASCII JSON: lone surrogates come out escaped instead of failing to encode."""
    return json.dumps(problem, ensure_ascii=True, allow_nan=False).encode("ascii")


def shown(value: object, *, limit: int = 80) -> str:
    """Return a value of a request for a message: quoted, escaped, at most `limit` characters.

    The time does not depend on the size of the value.
    """
    text = ""
    for piece in _pieces(value, limit):
        text += piece
        if len(text) > limit:
            return text[: limit - 1] + "…"
    return text


def _pieces(value: object, limit: int) -> Iterator[str]:
    """Yield `repr(value)` in pieces, so that the caller can stop early."""
    match value:
        case str() | bytes() | bytearray():
            yield repr(value[: 2 * limit])
        case int() if value.bit_length() > _LONGEST_INTEGER_BITS:
            yield f"a number of {value.bit_length()} bits"
        case dict():
            yield "{"
            for i, (name, member) in enumerate(value.items()):
                yield ", " if i else ""
                yield from _pieces(name, limit)
                yield ": "
                yield from _pieces(member, limit)
            yield "}"
        case list() | tuple():
            yield "[" if isinstance(value, list) else "("
            for i, item in enumerate(value):
                yield ", " if i else ""
                yield from _pieces(item, limit)
            yield "]" if isinstance(value, list) else ",)" if len(value) == 1 else ")"
        case _:
            yield repr(value)


def reason_of(error: BaseException, *, limit: int = 160) -> str:
    """Return the first line of a library's error message.

    Addresses of objects are removed. It has at most `limit` characters.
    """
    text = _ADDRESS.sub("", str(error).partition("\n")[0]) or type(error).__name__
    text = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return text if len(text) <= limit else text[: limit - 1] + "…"


def without_prefix(message: str) -> str:
    """Return a message of pydantic without the words that it puts before those of our own validators."""
    return message.removeprefix("Value error, ")


def printable(text: str) -> str:
    """Return `text` with lone surrogates escaped, so that any JSON parser accepts it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _safe(value: JsonValue) -> JsonValue:
    match value:
        case str():
            return printable(value)
        case float() if not math.isfinite(value):
            return str(value)
        case list():
            return [_safe(item) for item in value]
        case dict():
            return {printable(name): _safe(item) for name, item in value.items()}
        case _:
            return value
