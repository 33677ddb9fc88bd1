"""How noisy an image is, guessed from the image alone."""

import numpy as np

from service.images.image import Image

_MAD_TO_SIGMA = 0.6744897501960817  # the median of |N(0, 1)|
_UNIT = 255.0
_MOST_ROWS = 512  # pairs of rows looked at; more change nothing


def estimate_sigma(image: Image) -> float:
    """The standard deviation of white noise in an image, 0-255 units.

    The median of the absolute finest diagonal differences, where edges are rare and noise is everywhere: Donoho and
    Johnstone, Ideal spatial adaptation by wavelet shrinkage, 1994, https://doi.org/10.1093/biomet/81.3.425, with the
    wavelet of Haar. Fine texture is taken for noise; noise that was smoothed or compressed looks like less than it is.

    Args:
        image: A single one. One of less than 2x2 pixels has no noise.
    """
    height, width = (side // 2 * 2 for side in image.size)
    if not height or not width:
        return 0.0
    step = max(1, height // 2 // _MOST_ROWS) * 2
    even, odd = (Image(image.values[:1, :, start:height:step, :width]).pixels(image.channels)[0] for start in (0, 1))
    diagonal = (even[..., ::2] - even[..., 1::2] - odd[..., ::2] + odd[..., 1::2]) / 2
    return float(np.median(np.abs(diagonal)) / _MAD_TO_SIGMA * _UNIT)
