"""Large pictures in blocks: memory for one block beside the picture, and never the GIL for long."""

from collections.abc import Iterator

_BLOCK_PIXELS = 1 << 20  # 10 ms in Pillow; a smaller picture is one block


def blocks(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of every block in reading order: whole rows, or parts of one row."""
    across = min(width, _BLOCK_PIXELS)
    down = _BLOCK_PIXELS // across
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield slice(top, min(top + down, height)), slice(left, min(left + across, width))
