"""What can go wrong at an endpoint that runs a model."""

from service.errors import (
    BodyTooLarge,
    BrokenImage,
    InvalidArray,
    InvalidParameter,
    MalformedBody,
    ModelNotFound,
    NonFiniteResult,
    NotAcceptable,
    NotReady,
    RequestError,
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
    ModelNotFound,
    VersionNotFound,
    NotAcceptable,
    BodyTooLarge,
    TooManyPixels,
    TooManyImages,
    UnsupportedMediaType,
    UnsupportedEncoding,
    InvalidParameter,
    TaskNotOffered,
    InvalidArray,
    NonFiniteResult,
    NotReady,
)
IMAGE_ERRORS: tuple[type[RequestError], ...] = (*MODEL_ERRORS, BrokenImage, UnsupportedImage, SizeMismatch)
