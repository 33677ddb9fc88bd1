"""Peers for restoration; those whose packages (bm3d, scikit-image) are not installed are left out."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.optional import optional
from training.architectures.restorer import SIGMA_UNIT
from training.measure.baselines import median_filter
from training.measure.pictures import Restore

MEDIAN_WINDOW = 31  # pixels; wider than any stroke of a letter


def denoisers(*, is_colour: bool) -> dict[str, Restore]:
    """Return denoisers that take the noise level, by name, and the baseline."""
    found: dict[str, Restore] = {}
    if (bm3d := optional("bm3d")) is not None:
        run: Callable[..., np.ndarray] = bm3d.bm3d_rgb if is_colour else bm3d.bm3d
        found["CBM3D" if is_colour else "BM3D"] = lambda x, sigma: _as_image(run(_as_array(x), sigma / SIGMA_UNIT))
    if (restoration := optional("skimage.restoration")) is not None:
        found["non-local means"] = lambda x, sigma: _as_image(
            restoration.denoise_nl_means(
                _as_array(x), h=0.6 * sigma / SIGMA_UNIT, sigma=sigma / SIGMA_UNIT, patch_size=5, patch_distance=6,
                channel_axis=2 if is_colour else None,
            )
        )  # fmt: skip
        found["total variation"] = lambda x, sigma: _as_image(
            restoration.denoise_tv_chambolle(
                _as_array(x), weight=sigma / SIGMA_UNIT, channel_axis=2 if is_colour else None
            )
        )
    found["median 3x3"] = lambda x, _: median_filter(x)
    found["unprocessed"] = lambda x, _: x
    return found


def without_background(x: Tensor) -> Tensor:
    """Divide a page by its background, the median over a window wider than any stroke. Unchanged without SciPy."""
    ndimage = optional("scipy.ndimage")
    if ndimage is None:
        return x
    page = x[0, 0].numpy()
    background = np.maximum(ndimage.median_filter(page, MEDIAN_WINDOW), page)
    return torch.from_numpy(np.clip(page / np.maximum(background, 1e-3), 0, 1).astype(np.float32))[None, None]


def _as_array(x: Tensor) -> np.ndarray:
    return x[0, 0].numpy() if x.shape[1] == 1 else np.moveaxis(x[0].numpy(), 0, 2)


def _as_image(values: np.ndarray) -> Tensor:
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)
    return torch.from_numpy(np.ascontiguousarray(planes, np.float32))[None]
