"""Shared by endpoints: error responses of models and the database, parameters and headers."""

from typing import Annotated

from fastapi import Path

from service.errors import (
    AliasNotFound,
    BodyTooLarge,
    BrokenImage,
    DeadlineExceeded,
    Draining,
    HeadersTooLarge,
    ImageUnreachable,
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
    StoreUnavailable,
    TaskNotOffered,
    TooManyImages,
    TooManyPixels,
    TooMuchMemory,
    TooMuchWork,
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
    AliasNotFound,
    NotAcceptable,
    RequestTimeout,
    BodyTooLarge,
    HeadersTooLarge,
    TooManyPixels,
    TooManyImages,
    TooMuchMemory,
    TooMuchWork,
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
IMAGE_ERRORS: tuple[type[RequestError], ...] = (
    *(*MODEL_ERRORS, BrokenImage, UnsupportedImage, SizeMismatch),
    ImageUnreachable,
)
STORE_ERRORS: tuple[type[RequestError], ...] = (
    *(MalformedRequest, InvalidParameter, HeadersTooLarge),
    *(StoreUnavailable, QueueFull, Draining, DeadlineExceeded),
)
ModelName = Annotated[str, Path(min_length=1, max_length=63, description="Name of the model")]
IMAGE_HEADERS = ("X-Model", "X-Resize")
RESTORED_HEADERS = (*IMAGE_HEADERS, "X-Sigma")
