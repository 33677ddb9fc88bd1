"""The bodies of requests on the API page: endpoints read them themselves, so FastAPI does not know them."""

from pydantic import BaseModel

from service.api.openapi import BINARY, HOURGLASS, IMAGES_IN, NPY, Schema
from service.media_types import JSON_TYPE
from service.tasks.generate import GenerateBody

_BASE64: Schema = {"type": "string", "contentEncoding": "base64", "description": "An image file or an NPY array"}


def _object(**properties: Schema) -> Schema:
    """Describe an object that has these members and no other."""
    return {"type": "object", "required": [*properties], "properties": properties, "additionalProperties": False}


_SEVERAL: Schema = {"type": "array", "minItems": 1, "items": _BASE64}
JSON_IMAGES: dict[str, Schema] = {JSON_TYPE: {"schema": {"oneOf": [_object(image=_BASE64), _object(images=_SEVERAL)]}}}

IMAGE_BODY: Schema = {
    "requestBody": {
        "required": False,
        "description": "The image itself, or a form with one or more fields `file`, or an NPY array: float32 in "
        "[0, 1] or uint8; (H, W), (C, H, W) or (N, C, H, W). Or base64 in JSON. No body if `image` names a file.",
        "content": {
            **{kind: {"schema": BINARY} for kind in IMAGES_IN},
            **NPY,
            **JSON_IMAGES,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": BINARY, "minItems": 1}},
                    "additionalProperties": False,
                }
            },
        },
    }
}

_REQUEST: Schema = IMAGE_BODY["requestBody"]
ANOMALY_BODY: Schema = {
    "requestBody": {
        **_REQUEST,
        "description": f"{_REQUEST['description']} A form may also have one `ignore`: a mask for all its files, white "
        "where pixels take no part in score, map, regions and `unlike_training`. A mask of another size is resized.",
        "content": {
            **_REQUEST["content"],
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": BINARY, "minItems": 1}, "ignore": BINARY},
                    "additionalProperties": False,
                }
            },
        },
    }
}

FEEDBACK_BODY: Schema = {
    "requestBody": {
        "required": True,
        "description": "The picture itself, or a form with it as `file` and optionally a `mask` of the same size.",
        "content": {
            **{kind: {"schema": BINARY} for kind in IMAGES_IN},
            **JSON_IMAGES,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": BINARY, "mask": BINARY},
                    "additionalProperties": False,
                }
            },
        },
    }
}

HOURGLASS_BODY: Schema = {
    "requestBody": {"required": True, "description": "A file of `/compress`.", "content": HOURGLASS}
}

_LATENT = {"type": "array", "items": {"type": "number"}}
# What an answer of /encode holds beside its latents: it can be posted as it is.
_MADE_BY: Schema = {
    "model": {"type": "string"},
    "version": {"type": "integer"},
    "resize": {"type": "string"},
    "source": {"type": "string"},
}
LATENT_BODY: Schema = {
    "requestBody": {
        "required": True,
        "description": "One latent, several, or an NPY array: float32, (D,) or (N, D).",
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {
                            "type": "object",
                            "required": ["latent"],
                            "properties": {"latent": _LATENT, **_MADE_BY},
                            "additionalProperties": False,
                        },
                        {
                            "type": "object",
                            "required": ["latents"],
                            "properties": {
                                "latents": {"type": "array", "minItems": 1, "items": _LATENT},
                                **_MADE_BY,
                            },
                            "additionalProperties": False,
                        },
                    ]
                },
                "examples": {
                    "one": {"summary": "One latent of 32 zeros", "value": {"latent": [0] * 32}},
                    "several": {"summary": "Two latents", "value": {"latents": [[0] * 32, [1] * 32]}},
                },
            },
            **NPY,
        },
    }
}

GENERATE_BODY: Schema = {
    "requestBody": {
        "required": False,
        "description": "What to generate; one image if there is no body.",
        "content": {
            "application/json": {
                "schema": GenerateBody.model_json_schema(),
                "examples": {
                    "one": {"summary": "One image", "value": {}},
                    "several": {"summary": "Eight images, reproducible", "value": {"count": 8, "seed": 1}},
                },
            }
        },
    }
}

ENDS_BODY: Schema = {
    "requestBody": {
        "required": True,
        "description": "A form with two images in fields `file`, or two latents: JSON, or an NPY array: float32, "
        "(2, D).",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": BINARY, "minItems": 2, "maxItems": 2}},
                    "additionalProperties": False,
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["latents"],
                    "properties": {
                        "latents": {"type": "array", "minItems": 2, "maxItems": 2, "items": _LATENT},
                        **_MADE_BY,
                    },
                    "additionalProperties": False,
                },
                "examples": {"two": {"summary": "Two latents", "value": {"latents": [[0] * 32, [1] * 32]}}},
            },
            **NPY,
        },
    }
}

VECTOR_BODY: Schema = {
    "requestBody": {
        "required": True,
        "description": "The image itself, or a form with one or more fields `file`, or an NPY array: float32 in "
        "[0, 1] or uint8; (H, W), (C, H, W) or (N, C, H, W). Or latents: as JSON, or one as an NPY array (D,).",
        "content": {
            **IMAGE_BODY["requestBody"]["content"],
            "application/json": LATENT_BODY["requestBody"]["content"]["application/json"],
        },
    }
}


def json_body(model: type[BaseModel]) -> Schema:
    """Describe the body of an endpoint that reads it itself."""
    content = {JSON_TYPE: {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "description": model.__doc__ or "", "content": content}}
