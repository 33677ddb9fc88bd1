"""Find the size of the frames in an AV1 stream without decoding it.

Syntax and names are those of the AV1 bitstream specification, https://aomediacodec.github.io/av1-spec/, sections 5.3
to 5.9: a stream consists of open bitstream units (OBUs).
"""

from dataclasses import dataclass

from service.errors import BrokenImage
from service.images.guards.bits import Bits
from service.images.guards.boxes import Steps

_SEQUENCE_HEADER, _FRAMES = 1, frozenset({3, 6, 7})  # frame header, frame, redundant frame header
_KEY_FRAME, _SWITCH_FRAME, _SELECT = 0, 3, 2
_MOST_LEB128_BYTES, _MOST_ZEROS = 8, 32


@dataclass(frozen=True)
class _Sequence:
    """The fields of a sequence header that say how large a frame can be."""

    pixels: int  # of a frame that has the size of the sequence
    most_pixels: int  # of a frame with a size of its own
    is_reduced: bool  # a still picture without options
    time_bits: int  # of frame_presentation_time; 0 if frames have none
    has_frame_ids: bool
    screen_content_tools: int  # 0, 1, or 2 if each frame says it
    selects_integer_mv: bool  # whether a frame with these tools has force_integer_mv


def frame_pixels(stream: memoryview, steps: Steps) -> int:
    """Return the number of pixels of all frames in a stream.

    Args:
        stream: OBUs of one picture.
        steps: Limits the number of OBUs: one step is taken for each.

    Raises:
        BrokenImage: The stream is truncated, has too many OBUs, or a frame without a sequence header.
    """
    pixels, position = 0, 0
    sequence: _Sequence | None = None
    while position < len(stream):
        steps.take()
        head = stream[position]
        position += 1 + (head >> 2 & 1)  # an extension takes a byte
        end = len(stream)
        if head >> 1 & 1:
            length, position = _leb128(stream, position)
            end = position + length
        if max(position, end) > len(stream):
            raise BrokenImage("AVIF: the AV1 data is truncated")
        body, kind = stream[position:end], head >> 3 & 15
        if kind == _SEQUENCE_HEADER:
            sequence = _read_sequence(Bits(body, "AVIF"))
        elif kind in _FRAMES:
            if sequence is None:
                raise BrokenImage("AVIF: a frame without a sequence header")
            pixels += sequence.most_pixels if _has_own_size(Bits(body, "AVIF"), sequence) else sequence.pixels
        position = end
    return pixels


def _leb128(stream: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for i in range(_MOST_LEB128_BYTES):
        byte = stream[position + i]
        value |= (byte & 0x7F) << 7 * i
        if not byte & 0x80:
            return value, position + i + 1
    raise BrokenImage("AVIF: a length in the AV1 data is damaged")


def _read_sequence(bits: Bits) -> _Sequence:
    bits.take(4)  # seq_profile, still_picture
    time_bits = 0
    if is_reduced := bool(bits.take()):
        bits.take(5)  # seq_level_idx
    else:
        time_bits = _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    if has_frame_ids := not is_reduced and bool(bits.take()):
        bits.take(7)
    bits.take(3)  # use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    tools, selects_integer_mv = _SELECT, True
    if not is_reduced:
        bits.take(4)  # enable_interintra_compound to enable_dual_filter
        if bits.take():  # enable_order_hint
            bits.take(2)
        tools = _SELECT if bits.take() else bits.take()
        selects_integer_mv = not tools or bool(bits.take())  # seq_choose_integer_mv
    return _Sequence(
        pixels=width * height,
        most_pixels=1 << (width_bits + height_bits),
        is_reduced=is_reduced,
        time_bits=time_bits,
        has_frame_ids=has_frame_ids,
        screen_content_tools=tools,
        selects_integer_mv=selects_integer_mv,
    )


def _skip_uvlc(bits: Bits) -> None:
    if (zeros := bits.zeros()) < _MOST_ZEROS:
        bits.take(zeros)


def _skip_operating_points(bits: Bits) -> int:
    """Return the number of bits of frame_presentation_time, or 0 if frames have none."""
    delay_bits, time_bits, is_equal = 0, 0, False
    if bits.take():  # timing_info_present_flag
        bits.take(64)
        if is_equal := bool(bits.take()):
            _skip_uvlc(bits)
        if bits.take():  # decoder_model_info_present_flag
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5)
            time_bits = bits.take(5) + 1
    has_display_delay = bits.take()
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # seq_level_idx; a tier follows
            bits.take()
        if delay_bits and bits.take():
            bits.take(2 * delay_bits + 1)
        if has_display_delay and bits.take():
            bits.take(4)
    return 0 if is_equal else time_bits


def _has_own_size(bits: Bits, sequence: _Sequence) -> bool:
    """Return whether a frame can differ from the size of the sequence: frame_size_override_flag."""
    if sequence.is_reduced or bits.take():  # show_existing_frame
        return False
    if sequence.has_frame_ids:
        return True  # only streams for lossy networks have ids: not read further
    kind, is_shown = bits.take(2), bits.take()
    if not is_shown:
        bits.take()  # showable_frame
    elif sequence.time_bits:
        bits.take(sequence.time_bits)
    if kind != _SWITCH_FRAME and not (kind == _KEY_FRAME and is_shown):
        bits.take()  # error_resilient_mode
    bits.take()  # disable_cdf_update
    tools = bits.take() if sequence.screen_content_tools == _SELECT else sequence.screen_content_tools
    if tools and sequence.selects_integer_mv:
        bits.take()  # force_integer_mv
    return kind == _SWITCH_FRAME or bool(bits.take())
