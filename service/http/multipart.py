"""Parsing of multipart/form-data (RFC 7578) in memory, by the package `multipart`."""

from typing import NamedTuple

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from service.errors import MalformedBody, TooManyImages, printable, reason_of, shown

_MAX_PART_HEADER_BYTES = 8192
_MAX_FILENAME = 255  # characters


class Part(NamedTuple):
    """One field of a form.

    Attributes:
        filename: Name of the file, at most 255 characters; None if the client sent none.
    """

    name: str
    content: bytes
    filename: str | None = None


def split_multipart(body: bytes, content_type: str, *, max_parts: int) -> list[Part]:
    """Return the fields of a form, in order.

    Args:
        body: The whole body.
        content_type: The Content-Type header, with its boundary.
        max_parts: Maximum number of fields.

    Raises:
        MalformedBody: The boundary is missing, or the body does not match it.
        TooManyImages: There are more fields than `max_parts`.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if not 1 <= len(boundary) <= 70:
        raise MalformedBody(f"Content-Type is {shown(content_type)}; it needs a boundary of 1 to 70 characters")
    delimiter = b"--" + boundary.encode("latin-1", "replace")
    if delimiter not in body:
        raise MalformedBody(f"the multipart body lacks its boundary {shown(delimiter)[1:]}")
    try:
        return _parts(body, boundary, max_parts)
    except MultipartError as error:
        if delimiter + b"--" not in body:
            closing = shown(delimiter + b"--")[1:]
            raise MalformedBody(
                f"the multipart body ends without its closing boundary {closing}; was it cut off?"
            ) from error
        raise MalformedBody(f"the multipart body cannot be read: {reason_of(error)}") from error


def _parts(body: bytes, boundary: str, max_parts: int) -> list[Part]:
    parts: list[Part] = []
    name, content = "", bytearray()
    filename: str | None = None
    with PushMultipartParser(boundary, max_header_size=_MAX_PART_HEADER_BYTES) as parser:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                if len(parts) == max_parts:
                    raise TooManyImages(f"the form has more than {max_parts} fields (setting max_images)")
                name, filename, content = event.name, event.filename, bytearray()
            elif event:
                content += event
            else:  # the end of a part
                parts.append(Part(name, bytes(content), printable(filename)[:_MAX_FILENAME] if filename else None))
    return parts
