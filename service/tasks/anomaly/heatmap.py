"""Draw an anomaly map in colour over its image, with anomalous regions outlined."""

import numpy as np
from numpy.typing import NDArray

from service.images.image import Image

# Ten samples of "inferno" (Smith and van der Walt, 2015, CC0), which is perceptually uniform and survives both grey
# printing and colour blindness. Colours in between are interpolated linearly.
_INFERNO = (0x000004, 0x1B0C41, 0x4A0C6B, 0x781C6D, 0xA52C60, 0xCF4446, 0xED6925, 0xFB9B06, 0xF7D13D, 0xFCFFA4)
_DARKEST = 0.3  # start of the colours that are used: darker ones would look like a shadow
_STRONGEST_COVER = 0.85  # largest opacity of the colours over the image
_CALM, _HOTTEST = 0.75, 2.0  # in units of the level: where the colours begin and end
_OUTLINE = np.array([0, 255, 255], np.uint8)[:, None]  # cyan, which is not in inferno
_PIXELS_PER_LINE = 300  # of the longer side, per pixel of outline width
_BAND_PIXELS = 1 << 20  # drawn at a time, to bound the temporary memory

Mask = NDArray[np.bool_]


def _colour_table() -> NDArray[np.float32]:
    samples = np.array([[colour >> shift & 0xFF for shift in (16, 8, 0)] for colour in _INFERNO]) / 255
    positions = np.linspace(0, 1, len(samples))
    steps = np.linspace(_DARKEST, 1, 256)
    return np.stack([np.interp(steps, positions, samples[:, i]) for i in range(3)]).astype(np.float32)  # (3, 256)


_COLOURS = _colour_table()


def draw_heatmap(image: Image, anomaly_map: NDArray[np.float32], mask: Mask, *, level: float | None) -> Image:
    """Draw the image in grey, coloured where the map is near or above the level.

    Colours are comparable between images of a model, and a normal image stays grey. Outlines are a 300th of the
    longer side wide, so images below 150 pixels have none.

    Args:
        image: One image, of height H and width W.
        anomaly_map: Anomaly map, (H, W); larger is more anomalous.
        mask: Regions to outline, (H, W).
        level: Threshold of the map; None to leave the image grey.

    Returns:
        Opaque 8-bit RGB image, H x W.
    """
    height, width = anomaly_map.shape
    drawn = np.empty((3, height, width), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        grey = Image(image.values[:, :, band]).pixels(1)[0]  # (1, rows, W)
        drawn[:, band] = _mix(grey, anomaly_map[band], level or 0.0)
    drawn[:, _outline(mask)] = _OUTLINE
    return Image(drawn[None])


def _mix(grey: NDArray[np.float32], part: NDArray[np.float32], level: float) -> NDArray[np.uint8]:
    heights = part / np.float32(level) if level > 0 else np.zeros_like(part)
    strength = np.clip((heights - _CALM) / np.float32(_HOTTEST - _CALM), 0, 1)
    colour = _COLOURS[:, np.rint(strength * 255).astype(np.uint8)]  # (3, rows, W)
    cover = _STRONGEST_COVER * np.minimum(2 * strength, 1)  # colours begin softly and are strong above the level
    mixed: NDArray[np.float32] = (1 - cover) * grey + cover * colour
    return np.rint(mixed * 255).astype(np.uint8)


def _outline(mask: Mask) -> Mask:
    """Return the pixels just outside a mask."""
    wide = mask.copy()
    if mask.any():
        for _ in range(round(max(mask.shape) / _PIXELS_PER_LINE)):
            grown = wide.copy()
            grown[1:] |= wide[:-1]
            grown[:-1] |= wide[1:]
            wide = grown.copy()
            wide[:, 1:] |= grown[:, :-1]
            wide[:, :-1] |= grown[:, 1:]
    return wide & ~mask
