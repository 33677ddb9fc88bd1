"""Restore images of any size: read once, run tile by tile, write once."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import Manifest
from service.contract.noise import UNIT as SIGMA_UNIT
from service.errors import InvalidParameter, TooManyPixels
from service.http.negotiation import negotiate
from service.images.codec import DEFAULT_QUALITY, encode_image, image_types
from service.images.image import Image, Pixels, Values, as_sent
from service.images.inspect import ImageFile
from service.images.noise import level_of
from service.images.npy import write_npy
from service.images.tiles import ORIENTATIONS, UNTILED_PIXELS, Span, oriented, padded_window, plan, upright
from service.limits import InputLimits
from service.media_types import NPY_TYPE
from service.memory import release_unused
from service.models.batcher import Batcher
from service.models.job import Inputs, Outputs
from service.progress import advance, expect
from service.tasks.answer import Answer
from service.tasks.cost import Cost, cost_of_pictures
from service.tasks.image_input import read_image
from service.tasks.peak import most_pixels
from service.tasks.planes import Part, Planes, planes_for

_LARGE_BYTES = 2**26


@dataclass(frozen=True)
class Options:
    """Options of restoring and writing an image; see `schemas.DenoiseQuery`."""

    sigma: float | None = None
    strength: float = 1.0
    thorough: bool = False
    quality: int = DEFAULT_QUALITY
    metadata: Literal["drop", "keep"] = "drop"


@dataclass
class Restoration:
    """Restore one file for /denoise or /enhance, by a model of any size."""

    is_tiled: ClassVar[bool] = True

    file: ImageFile
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    options: Options = field(default_factory=Options)
    is_enhance: bool = False
    image: Image = field(init=False)
    result: Values = field(init=False)
    media_type: str = field(init=False)
    sigmas: list[float] = field(init=False)
    removed: float = 0.0
    planes: Planes = field(init=False)

    @property
    def scale(self) -> int:
        """Factor by which the result is enlarged."""
        return self.manifest.enhance.scale if self.is_enhance and self.manifest.enhance else 1

    @property
    def enlarged_alpha(self) -> NDArray[np.uint8] | None:
        """The alpha to enlarge; None if nothing is enlarged."""
        return self.image.alpha if self.is_enhance else None

    @property
    def passes(self) -> int:
        """Number of runs per pixel: one, or one per orientation."""
        return ORIENTATIONS if self.options.thorough else 1

    @property
    def is_luma_only(self) -> bool:
        """Whether chroma is resampled without the graph."""
        enhance = self.manifest.enhance
        return self.is_enhance and enhance is not None and enhance.luma_only

    @property
    def takes_sigma(self) -> bool:
        """Whether the graph takes the noise level."""
        return self.manifest.noise is not None and not self.is_enhance

    def cost(self, files: Sequence[ImageFile], batcher: Batcher) -> Cost:
        """Return the cost of files with the same options as this one."""
        return cost_of_pictures(
            files,
            self.manifest,
            batcher,
            self.limits,
            scale=self.scale,
            passes=self.passes,
            is_luma_only=self.is_luma_only,
            accept=self.accept,
            is_tiled=True,
        )

    async def run(self, batcher: Batcher) -> Answer:
        """Return the restored image. It is read and written in a thread, and tiles run in the batcher's.

        Raises:
            RequestError: The file cannot be read, or a tile fails.
        """
        await asyncio.to_thread(self.read)
        if self.image.values.nbytes >= _LARGE_BYTES:
            await asyncio.to_thread(release_unused)  # what the decoder held: another thread will write
        tiles = list(self.tiles())
        expect(len(tiles) * self.passes)
        for tile in tiles:  # one at a time, so that other requests run in between and memory is bounded
            while not tile.is_done:
                await batcher.answer(tile)
                advance()
        return await asyncio.to_thread(self.write)

    def read(self) -> None:
        """Read the file and estimate its noise level."""
        limits, scale = self.limits, self.scale
        header = self.file.header
        most, pixels = most_pixels(header, limits, scale=scale), header.pixels or 0
        if scale == 1 and limits.max_tiled_pixels >= pixels > most:
            raise TooManyPixels(
                f"the image is {header.width}x{header.height}, {pixels} pixels; the limit is {most} (setting "
                f"max_pixels), and {limits.max_tiled_pixels} for PNG and JPEG; send one of these"
            )
        # Memory is reserved for the pixels in the header, so a file has no more, if those are many.
        image = read_image(self.file, limits, max_pixels=min(most, max(limits.max_pixels, pixels)))
        self.image = image if self.options.metadata == "keep" else replace(image, exif=None)
        count, (height, width) = len(image.values), image.size
        cell = self.manifest.input.multiple_of
        padded = -(-height // cell) * cell * (-(-width // cell) * cell)  # slivers may grow much when padded
        if count * padded * scale**2 > most:
            raise TooManyPixels(
                f"the answer would have {count} x {width * scale}x{height * scale} pixels, with sides padded to "
                f"multiples of {cell}; the limit is {most} (setting max_pixels)"
            )
        kinds = image_types(replace(image, values=_shape_only(image.values, height * scale, width * scale)))
        self.media_type = negotiate(self.accept, (NPY_TYPE, *kinds) if image.array_rank else (*kinds, NPY_TYPE))
        self.sigmas = [self._sigma(Image(values[None])) for values in image.values]
        self.planes = planes_for(
            model_channels=self.manifest.input.channels,
            channels=image.channels,
            is_luma_only=self.is_luma_only,
        )
        depth = np.float32 if self.media_type == NPY_TYPE else image.to_depth(np.zeros(1, np.float32)).dtype
        channels = image.channels + (self.enlarged_alpha is not None)
        self.result = np.empty((count, channels, height * scale, width * scale), depth)

    def tiles(self) -> Iterator["Tile"]:
        """Yield jobs for the batcher, in reading order."""
        for number in range(len(self.image.values)):
            for rows, columns in plan(*self.image.size, self.manifest.input, scale=self.scale):
                yield Tile(self, number, rows, columns)

    def write(self) -> Answer:
        """Return the answer after all tiles have run."""
        sigma = self._found() if self.takes_sigma else None
        image, alpha = self.image, self.image.alpha
        if self.enlarged_alpha is not None:
            self.result, alpha = self.result[:, :-1], self._to_alpha(self.result[0, -1])
        self.image = restored = replace(image, values=self.result, alpha=alpha)  # the values that were sent are freed
        del image
        if self.media_type == NPY_TYPE:
            value = as_sent(restored)
            return Answer(NPY_TYPE, write_npy(value), value, sigma=sigma)
        content = encode_image(restored, self.media_type, quality=self.options.quality)
        return Answer(self.media_type, content, sigma=sigma)

    def _sigma(self, image: Image) -> float:
        noise = self.manifest.noise
        if noise is None or self.is_enhance:
            if self.options.sigma is not None:
                raise InvalidParameter(
                    f"sigma is {self.options.sigma:g}, but {self.manifest.name!r} was trained for one kind of "
                    "input and takes none; leave it out"
                )
            return 0.0
        if self.options.sigma is None:
            return level_of(image, noise, channels=self.manifest.input.channels)
        if not noise.min_sigma <= self.options.sigma <= noise.max_sigma:
            raise InvalidParameter(
                f"sigma is {self.options.sigma:g}; {self.manifest.name!r} was trained for {noise.min_sigma:g} to "
                f"{noise.max_sigma:g} (0-255 units)"
            )
        return self.options.sigma

    def _found(self) -> float:
        """Return the noise level of the first image: the input of the graph, or the RMS of the removed noise."""
        told = self.sigmas[0]
        return told if told >= 0 else SIGMA_UNIT * math.sqrt(self.removed / math.prod(self.result.shape[1:]))

    def _to_alpha(self, values: Values) -> NDArray[np.uint8]:
        return (
            values.astype(np.uint8) if values.dtype == np.uint8 else np.rint(values * np.float32(255)).astype(np.uint8)
        )


@dataclass
class Tile:
    """A job for one tile of one image of a restoration, submitted until it is done.

    It runs once for each orientation of a `thorough` restoration, and once for each plane if one fills an inference,
    so that other requests run in between.
    """

    whole: Restoration
    number: int
    rows: Span
    columns: Span
    ran: int = 0
    groups: int = 1  # of planes that run together
    totals: dict[int, Pixels] = field(default_factory=dict)  # by group

    is_small = False

    @property
    def is_done(self) -> bool:
        """Whether all runs of this tile are done."""
        return self.ran == self.whole.passes * self.groups

    def prepare(self) -> Inputs:
        """Return the window for the graph, and the noise level if the graph takes it."""
        whole = self.whole
        x = padded_window(whole.planes.split(self._part()), self.rows, self.columns, *whole.image.size)
        together = max(1, UNTILED_PIXELS // math.prod(x.shape[2:]))
        self.groups = -(-len(x) // together)
        orientation, group = divmod(self.ran, self.groups)
        window = np.ascontiguousarray(oriented(x[group * together : (group + 1) * together], orientation))
        if not whole.takes_sigma:
            return (window,)
        return window, np.full(len(window), whole.sigmas[self.number], np.float32)

    def finish(self, outputs: Outputs) -> None:
        """Add a run. After the last one, write the mean of all orientations to the result."""
        whole, s = self.whole, self.whole.scale
        orientation, group = divmod(self.ran, self.groups)
        self.totals[group] = self.totals.get(group, np.float32(0)) + upright(outputs[0], orientation)
        self.ran += 1
        if not self.is_done:
            return
        total: Pixels = np.concatenate([self.totals.pop(i) for i in range(self.groups)])  # not held until the last tile
        x_hat = total / np.float32(whole.passes)
        top, left = (self.rows.start - self.rows.left) * s, (self.columns.start - self.columns.left) * s
        height, width = (self.rows.stop - self.rows.start) * s, (self.columns.stop - self.columns.start) * s
        inner = (slice(None), slice(top, top + height), slice(left, left + width))
        planes = whole.planes.join(x_hat, self._part(), inner, s)
        strength, is_blind = whole.options.strength, whole.sigmas[self.number] < 0
        if strength < 1 or is_blind:
            sent = Image(self._cut(*((span.start, span.stop) for span in (self.rows, self.columns))))
            x = sent.pixels(sent.channels)[0]
            if is_blind and self.number == 0:
                whole.removed += float(np.square(planes - x).sum())
            planes = planes if strength == 1 else strength * planes + (1 - strength) * x
        at = (slice(self.rows.start * s, self.rows.stop * s), slice(self.columns.start * s, self.columns.stop * s))
        values = np.clip(planes, 0, 1) if whole.result.dtype == np.float32 else whole.image.to_depth(planes)
        whole.result[self.number, :, at[0], at[1]] = values

    def _cut(self, rows: tuple[int, int], columns: tuple[int, int]) -> Values:
        return self.whole.image.values[self.number : self.number + 1, :, slice(*rows), slice(*columns)]

    def _part(self) -> Part:
        rows, columns = (self.rows.left, self.rows.right), (self.columns.left, self.columns.right)
        alpha = self.whole.enlarged_alpha
        return Part(self._cut(rows, columns), None if alpha is None else alpha[slice(*rows), slice(*columns)])


def _shape_only(values: Values, height: int, width: int) -> Values:
    """Return an array of this size and dtype that takes no memory."""
    return np.broadcast_to(np.zeros(1, values.dtype), (len(values), values.shape[1], height, width))
