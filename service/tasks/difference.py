"""How much the answers of two versions to one file differ: by score and verdict, or by PSNR."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from service.contract.manifest import Task
from service.images.form import Form
from service.images.inspect import ImageFile
from service.limits import InputLimits
from service.media_types import JSON_TYPE
from service.tasks.answer import Answer
from service.tasks.image_input import read_image

COMPARED: frozenset[Task] = frozenset({"denoise", "enhance", "anomaly"})  # what a candidate and a shadow may do
_SAME_DB = 100.0  # PSNR of equal pictures, which has no number

Verdict = Mapping[str, Any]


def verdicts_of(answer: Answer) -> list[Verdict]:
    """Return the verdicts in an answer of `/anomaly`: `score` and `verdict` of each image; none of a bare map."""
    found: Any = orjson.loads(answer.content) if answer.media_type == JSON_TYPE else answer.value
    if not isinstance(found, dict):
        return []
    results = found.get("results", [found])
    return [result for result in results if "score" in result and "verdict" in result]


def psnr_of(answer: Answer, other: Answer, form: Form, limits: InputLimits) -> float:
    """Return the PSNR between two answers that are pictures or arrays of one size, in dB; at most 100.

    Args:
        answer: What was answered.
        other: What another version would have answered.
        form: How the values of the sent file were laid out: those of the answers are, too.
        limits: On the size of a picture.

    Raises:
        RequestError: One of them cannot be read again.
    """
    first, second = (read_image(ImageFile.of(each.content, form), limits) for each in (answer, other))
    channels = max(first.channels, second.channels)
    error = float(np.mean(np.square(first.pixels(channels) - second.pixels(channels), dtype=np.float64)))
    return _SAME_DB if error <= 0 else min(_SAME_DB, -10 * math.log10(error))
