"""Content codings of bodies (RFC 9110, 8.4.1): gzip, and deflate, which is zlib's format."""

import zlib

from service.errors import MalformedBody, UnsupportedEncoding, reason_of, shown
from service.http.body import Cap, check_size

_WINDOW = {"gzip": 31, "deflate": 15}  # zlib's codes for the two formats
_LEVEL = 1  # floats hardly get smaller at higher ones
_LEAST_BYTES = 1024  # less than that is not worth it


def decode(body: bytes, coding: str, cap: Cap) -> bytes:
    """Decode a body with a Content-Encoding.

    Args:
        body: Encoded body.
        coding: Content-Encoding, empty or "identity" for none.
        cap: Cap of the result, since a few kilobytes can decode to gigabytes.

    Raises:
        UnsupportedEncoding: The coding is unknown, or there are several.
        BodyTooLarge: The decoded body exceeds the limit.
        MalformedBody: The body cannot be decoded.
    """
    coding = coding.strip().lower()
    if coding in {"", "identity"}:
        return body
    if coding not in _WINDOW:
        raise UnsupportedEncoding(f"Content-Encoding is {shown(coding)}; send gzip, deflate, or the body without one")
    reader = zlib.decompressobj(_WINDOW[coding])
    try:
        content = reader.decompress(body, cap.max_bytes + 1)
    except zlib.error as error:
        raise MalformedBody(f"the body is not {coding}: {reason_of(error)}") from error
    check_size(len(content), cap)
    if not reader.eof or reader.unused_data:
        raise MalformedBody(f"the {coding} body is truncated, or followed by other data")
    return content


def choose(accept_encoding: str) -> str | None:
    """Return the coding that the client accepts by name: gzip, deflate, or None."""
    asked = {}
    for item in accept_encoding.lower().split(","):
        name, _, quality = item.partition(";")
        asked[name.strip()] = quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return next((coding for coding in _WINDOW if asked.get(coding)), None)


def encode(body: bytes, coding: str | None) -> tuple[bytes, str | None]:
    """Return the encoded body and its coding; bodies too small to gain stay as they are, with None."""
    if coding is None or len(body) < _LEAST_BYTES:
        return body, None
    writer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW[coding])
    return writer.compress(body) + writer.flush(), coding
