"""Split an image into the planes that a graph takes, and join the planes of its result."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.contract.colour import FROM_YCC, TO_YCC
from service.images.image import Image, Pixels, Values, grey
from service.images.resize import resample

Inner = tuple[slice, slice, slice]  # of planes of the result: the tile without its halo


@dataclass(frozen=True)
class Part:
    """A window of one image.

    Attributes:
        values: Values of the request, (1, C, h, w).
        alpha: Opacity, (h, w), if the result includes it; else None.
    """

    values: Values
    alpha: NDArray[np.uint8] | None = None

    def pixels(self, channels: int) -> Pixels:
        """Return the pixels for a model with this many channels, (1, channels, h, w)."""
        return Image(self.values).pixels(channels)

    @property
    def alpha_plane(self) -> Pixels:
        """Opacity in [0, 1], (1, h, w); (0, h, w) if the result does not include it."""
        if self.alpha is None:
            return np.empty((0, *self.values.shape[2:]), np.float32)
        return np.divide(self.alpha, np.float32(255), dtype=np.float32)[None]


class Planes(Protocol):
    """A way to run images through a graph."""

    def split(self, part: Part) -> Pixels:
        """Return the graph's input, (N, C, h, w)."""

    def join(self, x_hat: Pixels, part: Part, inner: Inner, scale: int) -> Pixels:
        """Return the planes of the result, (C, h, w), followed by any alpha.

        Args:
            x_hat: Output of the graph for `split(part)`, enlarged by `scale`.
            part: The window.
            inner: Slices of the result to return.
            scale: Factor by which the graph enlarges.
        """


class ColourPlanes:
    """For graphs of colour: all channels at once. Grey images stay grey, and an alpha is resampled."""

    def split(self, part: Part) -> Pixels:
        return part.pixels(3)

    def join(self, x_hat: Pixels, part: Part, inner: Inner, scale: int) -> Pixels:
        planes: Pixels = x_hat[0][inner]
        if part.values.shape[1] == 1:
            planes = grey(np.clip(planes, 0, 1)[None])[0]
        return np.concatenate([planes, _enlarged(part.alpha_plane, scale)[inner]]) if part.alpha is not None else planes


class SinglePlanes:
    """For graphs of one channel: each channel, and an alpha, runs as a separate image."""

    def split(self, part: Part) -> Pixels:
        return np.concatenate([part.pixels(part.values.shape[1])[0], part.alpha_plane])[:, None]

    def join(self, x_hat: Pixels, _: Part, inner: Inner, __: int) -> Pixels:
        planes: Pixels = x_hat[:, 0][inner]
        return planes


class LumaPlanes:
    """For graphs of luma: luma and any alpha run, and chroma, which eyes resolve less, is resampled."""

    def split(self, part: Part) -> Pixels:
        x = part.pixels(3)[0]
        luma = x[:1] * TO_YCC[0, 0] + x[1:2] * TO_YCC[0, 1] + x[2:] * TO_YCC[0, 2]
        return np.concatenate([luma, part.alpha_plane])[:, None]

    def join(self, x_hat: Pixels, part: Part, inner: Inner, scale: int) -> Pixels:
        planes = x_hat[:, 0][inner]
        chroma = _enlarged(np.tensordot(TO_YCC[1:], part.pixels(3)[0], axes=1), scale)[inner]
        rgb = np.tensordot(FROM_YCC, np.concatenate([planes[:1], chroma]), axes=1)
        return np.concatenate([rgb, planes[1:]])


def planes_for(*, model_channels: int, channels: int, is_luma_only: bool) -> Planes:
    """Choose the planes for an image with `channels` (1 or 3) and a graph with `model_channels`."""
    if model_channels == 3:
        return ColourPlanes()
    return LumaPlanes() if is_luma_only and channels == 3 else SinglePlanes()


def _enlarged(planes: Pixels, scale: int) -> Pixels:
    height, width = (side * scale for side in planes.shape[1:])
    return resample(planes, height, width)
