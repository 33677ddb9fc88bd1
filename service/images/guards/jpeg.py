"""Walk a JPEG file: markers and their segments.

Inside coded data 0xFF is followed by 0x00 or a restart marker, so no scan is counted twice.
"""

import re
import struct

from service.errors import BrokenImage
from service.images.header import Header
from service.images.outline import Outline

# Progressive encoders write 10 scans, the longest script in the wild about 20. Every scan walks all pixels.
MAX_SCANS = 40
MAX_SCANNED_PIXELS = 40 * 2**25  # of all scans together: 10 scans of a picture of 134 megapixels
MAX_SEGMENTS = 10_000  # a photograph has about thirty; each costs a step here
# Of all segments for applications: a phone's depth map takes some MiB. Pillow joins and parses them in time that grows
# with the square of their number.
MAX_APPLICATION_BYTES = 16 * 2**20
MAX_FILL_PEEKED = 65_536  # total bytes between segments: `peek` runs in the event loop
_MARKER = re.compile(rb"\xff[^\x00\xff]")  # viewers skip any bytes before a marker
_MARKER_IN_CODED_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_COEFFICIENT_BYTES = 2
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_STEP_BYTES = 1 << 20  # about 5 ms
_APPLICATIONS = range(0xE0, 0xF0)
_SOS, _EOI, _ALONE = 0xDA, 0xD9, frozenset({0x01, *range(0xD0, 0xD9)})


def peek(data: bytes) -> Header:
    """Read the frame header, which follows a few segments, and whether the first scan has all components."""
    position, fill, header, coefficient_bytes = 2, MAX_FILL_PEEKED, Header("JPEG"), 0.0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position, position + fill)
        if found is None:
            break
        fill -= found.start() - position
        position, marker = found.start(), data[found.end() - 1]
        if marker in _FRAME_HEADERS:
            if len(data) < position + 10:
                break
            height, width, components = struct.unpack_from(">HHB", data, position + 5)
            header = Header("JPEG", width, height, is_colour=components != 1, channels=components)
            coefficient_bytes = _coefficient_bytes(data[position + 10 : position + 10 + 3 * components])
            if marker in _PROGRESSIVE:
                return header._replace(decoder_bytes=coefficient_bytes)
        if marker == _SOS:
            is_whole = data[position + 4 : position + 5] == bytes([header.channels])
            return header if is_whole else header._replace(decoder_bytes=coefficient_bytes)
        position += 2 if marker in _ALONE else 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
    return header._replace(decoder_bytes=coefficient_bytes)


def _coefficient_bytes(components: bytes) -> float:
    """Return the bytes a pixel of all coefficients, which a decoder holds if a scan does not have all components."""
    samples = [(factors >> 4) * (factors & 15) for factors in components[1::3]]
    return _COEFFICIENT_BYTES * sum(samples) / max((1, *samples))


def walk(data: bytes) -> Outline:
    """Check a JPEG file and return its outline.

    Raises:
        BrokenImage: The file is damaged, truncated, or has more scans or segments than any encoder writes.
    """
    width, height, scans, position, application_bytes = 0, 0, 0, 2, 0
    for _ in range(MAX_SEGMENTS):
        start = _search(_MARKER, data, position)
        if start is None:
            raise BrokenImage(f"JPEG: no marker behind byte {position}; the file is truncated or damaged")
        marker, position = data[start.end() - 1], start.end()
        if marker == _EOI:
            break
        if marker in _ALONE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _FRAME_HEADERS:
            if width:
                raise BrokenImage("JPEG: more than one frame header")
            _, height, width = struct.unpack_from(">BHH", data, position + 2)
        application_bytes += length if marker in _APPLICATIONS else 0
        position += max(2, length)
        if marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise BrokenImage(f"JPEG: more than {MAX_SCANS} scans, as in a decompression bomb")
            found = _search(_MARKER_IN_CODED_DATA, data, position)
            if found is None:
                raise BrokenImage("JPEG: the image data has no end; the file is truncated")
            position = found.start()
    else:
        raise BrokenImage(f"JPEG: more than {MAX_SEGMENTS} segments")
    _check_sums(scans, width, height, application_bytes)
    return Outline("JPEG", width, height)


def _check_sums(scans: int, width: int, height: int, application_bytes: int) -> None:
    if not scans:
        raise BrokenImage("JPEG: there is no image data")
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise BrokenImage(f"JPEG: {scans} scans of {width}x{height} pixels, as in a decompression bomb")
    if application_bytes > MAX_APPLICATION_BYTES:
        raise BrokenImage(f"JPEG: more than {MAX_APPLICATION_BYTES >> 20} MiB of segments beside the picture")


def _search(pattern: re.Pattern[bytes], data: bytes, position: int) -> re.Match[bytes] | None:
    """Search in steps, so that other threads can run in between."""
    for start in range(position, len(data), _STEP_BYTES):
        if found := pattern.search(data, start, start + _STEP_BYTES + 1):  # both patterns match two bytes
            return found
    return None
