"""What endpoints that run a model have in common: what can go wrong, and their headers."""

from service.errors import (
    BodyTooLarge,
    BrokenImage,
    DeadlineExceeded,
    Draining,
    HeadersTooLarge,
    InvalidArray,
    InvalidParameter,
    MalformedBody,
    MalformedRequest,
    ModelNotFound,
    NonFiniteResult,
    NotAcceptable,
    NotReady,
    QueueFull,
    RequestError,
    RequestTimeout,
    SizeMismatch,
    TaskNotOffered,
    TooManyImages,
    TooManyPixels,
    UnsupportedEncoding,
    UnsupportedImage,
    UnsupportedMediaType,
    VersionNotFound,
)

MODEL_ERRORS: tuple[type[RequestError], ...] = (
    MalformedBody,
    MalformedRequest,
    ModelNotFound,
    VersionNotFound,
    NotAcceptable,
    RequestTimeout,
    BodyTooLarge,
    HeadersTooLarge,
    TooManyPixels,
    TooManyImages,
    UnsupportedMediaType,
    UnsupportedEncoding,
    InvalidParameter,
    TaskNotOffered,
    InvalidArray,
    NonFiniteResult,
    NotReady,
    QueueFull,
    Draining,
    DeadlineExceeded,
)
IMAGE_ERRORS: tuple[type[RequestError], ...] = (*MODEL_ERRORS, BrokenImage, UnsupportedImage, SizeMismatch)
IMAGE_HEADERS = ("X-Model", "X-Resize")
RESTORED_HEADERS = (*IMAGE_HEADERS, "X-Sigma")
