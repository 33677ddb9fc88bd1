"""Find the size of the frames in HEVC data without decoding them.

Syntax and names are those of ITU-T H.265, sections 7.3.1 to 7.3.6, and of ISO/IEC 14496-15, section 8.3.3, for the
configuration beside them: data consist of network abstraction layer (NAL) units.
"""

from collections.abc import Iterator

from service.errors import BrokenImage
from service.images.guards.bits import Bits
from service.images.guards.boxes import Steps

_CHROMA_AT, _LENGTH_AT, _ARRAYS_AT = 16, 21, 22  # offsets in the configuration
_SEQUENCE_PARAMETERS, _FIRST_NOT_A_SLICE = 33, 32  # kinds of unit
_MOST_LAYERS, _MOST_ZEROS = 7, 32
_SEQUENCE_STEPS = 40  # reading the parameters of a sequence takes as long as this many fields
_HEAD_BYTES, _MOST_HEADER_BYTES = 2, 1024


def is_grey(configuration: memoryview) -> bool:
    """Return whether a configuration means pictures without chroma."""
    return configuration[_CHROMA_AT] & 3 == 0


def frame_pixels(content: memoryview, configuration: memoryview, steps: Steps) -> int:
    """Return the number of pixels of all frames in a picture, each counted with the largest size that is announced.

    Args:
        content: Units, each behind its length.
        configuration: Content of a box `hvcC`, with the parameters of the sequence.
        steps: Limits the number of units.

    Raises:
        BrokenImage: A unit is truncated, there are too many, or a frame comes without parameters.
    """
    largest = frames = 0
    for unit in _configured(configuration, steps):
        largest = max(largest, _sequence_pixels(unit, steps))
    length_bytes = (configuration[_LENGTH_AT] & 3) + 1
    position = 0
    while position < len(content):
        unit, position = _unit(content, position, length_bytes, steps)
        largest = max(largest, _sequence_pixels(unit, steps))
        if 0 <= _kind(unit) < _FIRST_NOT_A_SLICE and unit[_HEAD_BYTES] >> 7:  # first_slice_segment_in_pic_flag
            frames += 1
    if frames and not largest:
        raise BrokenImage("HEIC: a frame without the size of its sequence")
    return frames * largest


def _configured(configuration: memoryview, steps: Steps) -> Iterator[memoryview]:
    position = _ARRAYS_AT + 1
    for _ in range(configuration[_ARRAYS_AT]):
        steps.take()
        count = int.from_bytes(configuration[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            unit, position = _unit(configuration, position, 2, steps)
            yield unit


def _unit(data: memoryview, position: int, length_bytes: int, steps: Steps) -> tuple[memoryview, int]:
    """Return the unit at a position, and the position behind it."""
    steps.take()
    start = position + length_bytes
    end = start + int.from_bytes(data[position:start], "big")
    if end > len(data):
        raise BrokenImage("HEIC: the HEVC data is truncated")
    return data[start:end], end


def _kind(unit: memoryview) -> int:
    """Return the kind of a unit, or -1 of one that decoders skip: of a further layer, or without content."""
    layer = (unit[0] & 1) << 5 | unit[1] >> 3 if len(unit) > _HEAD_BYTES else 1
    return -1 if layer else unit[0] >> 1 & 63


def _sequence_pixels(unit: memoryview, steps: Steps) -> int:
    """Return the pixels of a frame if the unit has the parameters of a sequence, and 0 otherwise."""
    if _kind(unit) != _SEQUENCE_PARAMETERS:
        return 0
    steps.take(_SEQUENCE_STEPS)
    # A 3 behind two zeros is there only to keep start codes out of the data.
    bits = Bits(bytes(unit[_HEAD_BYTES:_MOST_HEADER_BYTES]).replace(b"\0\0\3", b"\0\0"), "HEIC")
    bits.take(4)  # sps_video_parameter_set_id
    layers = bits.take(3)
    bits.take(1 + 96)  # sps_temporal_id_nesting_flag, general profile, tier and level
    _skip_layers(bits, layers)
    _exp_golomb(bits)  # sps_seq_parameter_set_id
    if _exp_golomb(bits) == 3:  # chroma_format_idc
        bits.take()
    return _exp_golomb(bits) * _exp_golomb(bits)


def _skip_layers(bits: Bits, layers: int) -> None:
    if not layers:
        return
    has = [(bits.take(), bits.take()) for _ in range(layers)]  # a profile, and a level
    bits.take(2 * (_MOST_LAYERS + 1 - layers))
    for has_profile, has_level in has:
        bits.take(88 * has_profile + 8 * has_level)


def _exp_golomb(bits: Bits) -> int:
    zeros = bits.zeros()
    if zeros > _MOST_ZEROS:
        raise BrokenImage("HEIC: a number in the HEVC data is damaged")
    return (1 << zeros) - 1 + bits.take(zeros)
