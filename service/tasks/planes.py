"""Which planes of a picture go through a graph, and how its result becomes a picture again."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.contract.colour import FROM_YCC, TO_YCC
from service.images.image import Image, Pixels, Values, grey
from service.images.resize import resample

Inner = tuple[slice, slice, slice]  # of planes of the result: what a tile answers for


@dataclass(frozen=True)
class Part:
    """A window of one picture.

    Attributes:
        values: (1, C, h, w), as they were sent.
        alpha: (h, w), where it is part of the result; else None.
    """

    values: Values
    alpha: NDArray[np.uint8] | None = None

    def pixels(self, channels: int) -> Pixels:
        """Return the pixels as a model with that many channels gets them, (1, channels, h, w)."""
        return Image(self.values).pixels(channels)

    @property
    def alpha_plane(self) -> Pixels:
        """The alpha in [0, 1], (1, h, w); (0, h, w) if the result has none."""
        if self.alpha is None:
            return np.empty((0, *self.values.shape[2:]), np.float32)
        return np.divide(self.alpha, np.float32(255), dtype=np.float32)[None]


class Planes(Protocol):
    """One way of pictures through a graph."""

    def split(self, part: Part) -> Pixels:
        """Return the graph's input, (N, C, h, w)."""

    def join(self, x_hat: Pixels, part: Part, inner: Inner, scale: int) -> Pixels:
        """Return the planes of the result, (C, h, w), with the alpha behind them.

        Args:
            x_hat: What the graph made of `split(part)`, `scale` times as high and wide.
            part: The same part.
            inner: What to take of it.
            scale: How much larger the result is.
        """


class ColourPlanes:
    """For graphs of colour: all channels at once. Grey pictures come out grey; an alpha is resampled beside them."""

    def split(self, part: Part) -> Pixels:
        return part.pixels(3)

    def join(self, x_hat: Pixels, part: Part, inner: Inner, scale: int) -> Pixels:
        planes: Pixels = x_hat[0][inner]
        if part.values.shape[1] == 1:
            planes = grey(np.clip(planes, 0, 1)[None])[0]
        return np.concatenate([planes, _enlarged(part.alpha_plane, scale)[inner]]) if part.alpha is not None else planes


class SinglePlanes:
    """For graphs of one channel: every channel, and an alpha, as a picture of its own."""

    def split(self, part: Part) -> Pixels:
        return np.concatenate([part.pixels(part.values.shape[1])[0], part.alpha_plane])[:, None]

    def join(self, x_hat: Pixels, _: Part, inner: Inner, __: int) -> Pixels:
        planes: Pixels = x_hat[:, 0][inner]
        return planes


class LumaPlanes:
    """For graphs of luma: colour is resampled, as eyes see little of it; an alpha goes through the graph as well."""

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
    """Choose how a picture with `channels` (1 or 3) passes through a graph with `model_channels`."""
    if model_channels == 3:
        return ColourPlanes()
    return LumaPlanes() if is_luma_only and channels == 3 else SinglePlanes()


def _enlarged(planes: Pixels, scale: int) -> Pixels:
    height, width = (side * scale for side in planes.shape[1:])
    return resample(planes, height, width)
