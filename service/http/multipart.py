"""Takes multipart/form-data apart (RFC 7578), in memory and by searching for the boundary: no temporary files."""

import re
from dataclasses import dataclass

from service.errors import MalformedBody, TooManyImages, shown

_PARAMETER = re.compile(rb';\s*([A-Za-z0-9*_-]+)\s*=\s*(?:"((?:[^"\\\r\n]|\\.)*)"|([^\s;"]+))')
_MAX_PART_HEADER_BYTES = 8192


@dataclass(frozen=True)
class Part:
    """One field of a form."""

    name: str
    content: bytes


def split_multipart(body: bytes, content_type: str, *, max_parts: int) -> list[Part]:
    """The fields of a form, in order.

    Args:
        body: The whole body.
        content_type: The Content-Type header, with its boundary.
        max_parts: Most fields.

    Raises:
        MalformedBody: There is no boundary, or the body does not keep to it.
        TooManyImages: There are more fields than `max_parts`.
    """
    parameters = _parameters(content_type.encode("latin-1", "replace"))
    boundary = parameters.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise MalformedBody(f"Content-Type is {shown(content_type)}; it needs a boundary of 1 to 70 characters")
    delimiter = b"\r\n--" + boundary
    # The first delimiter may open the body; everything before it is a preamble to be skipped.
    pieces = (b"\r\n" + body).split(delimiter, max_parts + 2)  # preamble, parts, and what follows the last
    if len(pieces) < 2:
        raise MalformedBody(f"the multipart body never has its boundary {shown(b'--' + boundary)[1:]}")
    parts: list[Part] = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return parts
        if len(parts) == max_parts:
            raise TooManyImages(f"the form has more than {max_parts} fields (setting max_images)")
        parts.append(_part(piece))
    raise MalformedBody(
        f"the multipart body ends without its closing boundary {shown(b'--' + boundary + b'--')[1:]}; was it cut off?"
    )


def _part(piece: bytes) -> Part:
    start = piece.find(b"\r\n")
    end = piece.find(b"\r\n\r\n", start, start + _MAX_PART_HEADER_BYTES)
    if start < 0 or end < 0 or piece[:start].strip(b" \t"):
        raise MalformedBody("a part of the multipart body has no header block")
    for line in piece[start:end].split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            name = _parameters(value).get(b"name")
            if name is not None:
                return Part(name.decode("utf-8", "replace"), piece[end + 4 :])
    raise MalformedBody('a part of the multipart body has no Content-Disposition with a name="..."')


def _parameters(value: bytes) -> dict[bytes, bytes]:
    return {
        key.lower(): re.sub(rb"\\(.)", rb"\1", quoted) if quoted else plain
        for key, quoted, plain in _PARAMETER.findall(value)
    }
