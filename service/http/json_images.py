"""Images inside JSON: `{"image": "<base64>"}`, or several as `{"images": ["<base64>", ...]}`."""

import binascii
import re
from typing import Any

from service.errors import InvalidParameter, TooManyImages, reason_of, shown

_DATA_URL = re.compile(r"data:[a-z0-9.+/-]{0,100};base64,")  # as a browser's canvas and FileReader write


def read_json_images(document: Any, *, max_files: int) -> list[bytes]:  # noqa: ANN401  JSON of a stranger
    """Return the files in a document, of standard base64 with its padding; a data URL is taken, too.

    Raises:
        InvalidParameter: It is another document, or not base64. The message says where.
        TooManyImages: There are more than `max_files`.
    """
    match document:
        case {"image": str() as text, **others} if not others:
            return [_decode(text, "image")]
        case {"images": [_, *_] as texts, **others} if not others:
            if len(texts) > max_files:
                raise TooManyImages(f"the body has {len(texts)} images, the limit is {max_files} (setting max_images)")
            return [_decode(text, f"images[{i}]") for i, text in enumerate(texts)]
    raise InvalidParameter(
        f'the body is {shown(document)}; send {{"image": "<base64>"}} or {{"images": ["<base64>", ...]}}, or the '
        "image itself"
    )


def _decode(text: object, where: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidParameter(f"{where} is {shown(text)}; send an image file in base64")
    found = _DATA_URL.match(text)
    try:
        content = binascii.a2b_base64(text[found.end() if found else 0 :], strict_mode=True)
    except ValueError as error:  # also of letters beyond ASCII
        raise InvalidParameter(
            f"{where} is not base64 (RFC 4648, with padding and without line breaks): {reason_of(error)}"
        ) from error
    if not content:
        raise InvalidParameter(f"{where} is empty; send an image file in base64")
    return content
