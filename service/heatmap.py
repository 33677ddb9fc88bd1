"""The anomaly map in colour over the image it belongs to."""

import numpy as np
from numpy.typing import NDArray

from service.pixels import Image

# Ten samples of "inferno" (Smith and van der Walt, 2015, CC0), which is perceptually uniform and survives both grey
# printing and colour blindness. What lies between is linear.
_INFERNO = (0x000004, 0x1B0C41, 0x4A0C6B, 0x781C6D, 0xA52C60, 0xCF4446, 0xED6925, 0xFB9B06, 0xF7D13D, 0xFCFFA4)
_STRONGEST_COVER = 0.85  # the image still shines through where the map is at its peak


def _colour_table() -> NDArray[np.float32]:
    samples = np.array([[colour >> shift & 0xFF for shift in (16, 8, 0)] for colour in _INFERNO]) / 255
    positions = np.linspace(0, 1, len(samples))
    steps = np.linspace(0, 1, 256)
    return np.stack([np.interp(steps, positions, samples[:, i]) for i in range(3)]).astype(np.float32)  # (3, 256)


_COLOURS = _colour_table()


def draw_heatmap(image: Image, anomaly_map: NDArray[np.float32]) -> Image:
    """The image in grey, covered in colour the more the map rises towards its own peak.

    Args:
        image: One image, of height H and width W.
        anomaly_map: (H, W), larger means more unusual.

    Returns:
        8-bit RGB, H x W, opaque.
    """
    grey = image.pixels(1)[0]  # (1, H, W)
    peak = float(anomaly_map.max())
    strength = np.clip(anomaly_map / peak, 0.0, 1.0) if peak > 0 else np.zeros_like(anomaly_map)
    colour = _COLOURS[:, np.rint(strength * 255).astype(np.uint8)]  # (3, H, W)
    cover = _STRONGEST_COVER * np.sqrt(strength)  # the root lifts weak places out of the grey
    mixed = (1 - cover) * grey + cover * colour
    return Image(np.rint(mixed * 255).astype(np.uint8)[None])
