"""Compare the answers of two versions to one file: by score and verdict, or by PSNR."""

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

COMPARED: frozenset[Task] = frozenset({"denoise", "enhance", "anomaly"})  # tasks that support candidates and shadows
_SAME_DB = 100.0  # reported for equal images, whose PSNR is infinite

Verdict = Mapping[str, Any]


def verdicts_of(answer: Answer) -> list[Verdict]:
    """Return `score` and `verdict` of each image in an answer of `/anomaly`; none for an array of maps."""
    found: Any = orjson.loads(answer.content) if answer.media_type == JSON_TYPE else answer.value
    if not isinstance(found, dict):
        return []
    results = found.get("results", [found])
    return [result for result in results if "score" in result and "verdict" in result]


def psnr_of(answer: Answer, other: Answer, form: Form, limits: InputLimits) -> float:
    """Return the PSNR between two answers in dB, at most 100. Both are images or arrays of one size.

    Args:
        answer: The answer that was sent.
        other: The answer of the other version.
        form: Layout of the values in the request, and so in the answers.
        limits: Limits of image sizes.

    Raises:
        RequestError: An answer cannot be decoded.
    """
    first, second = (read_image(ImageFile.of(each.content, form), limits) for each in (answer, other))
    channels = max(first.channels, second.channels)
    error = float(np.mean(np.square(first.pixels(channels) - second.pixels(channels), dtype=np.float64)))
    return _SAME_DB if error <= 0 else min(_SAME_DB, -10 * math.log10(error))
