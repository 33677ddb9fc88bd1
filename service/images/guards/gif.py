"""Walk a GIF file: a screen, then blocks of images and extensions."""

import struct

from service.errors import BrokenImage
from service.images.header import Header
from service.images.outline import Outline

_HEAD_BYTES = 10

# Encoders fill blocks of 255 bytes, except for the last one of a frame. Each block costs a step here.
MAX_BLOCKS, _LEAST_MEAN_BYTES = 10_000, 64


def peek(data: bytes) -> Header:
    """Read the screen descriptor."""
    return Header("GIF", *struct.unpack_from("<HH", data, 6)) if len(data) >= _HEAD_BYTES else Header("GIF")


def walk(data: bytes) -> Outline:
    """Check a GIF file, count its frames and return its outline.

    Raises:
        BrokenImage: A block is of an unknown kind, or there are more blocks than any encoder writes.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position, frames = 13 + _palette_bytes(flags), 0
    steps, most = 0, MAX_BLOCKS + len(data) // _LEAST_MEAN_BYTES
    while data[position] != 0x3B:
        block = data[position]
        if block == 0x2C:
            frames += 1
            position += 11 + _palette_bytes(data[position + 9])  # descriptor, palette, minimum code size
        elif block == 0x21:
            position += 2
        elif frames:
            break  # rubbish after the first frame, the only one that is decoded
        else:
            raise BrokenImage(f"GIF: unknown block 0x{block:02x} at byte {position}")
        while size := data[position]:
            position += 1 + size
            steps += 1
            if steps > most:
                break
        position += 1
        steps += 1
        if steps > most:
            raise BrokenImage(f"GIF: more than {most} blocks")
        if frames and position >= len(data):
            break  # a missing trailer is common and harmless
    return Outline("GIF", width, height, max(1, frames))


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
