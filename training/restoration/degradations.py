"""Degradations of pictures that networks learn to restore. To add one: a function and its name below.

Every function takes clean patches (N, C, H, W) in [0, 1] and the standard deviation of each one's noise in 0-255 units,
and returns the inputs of the network. All random numbers come from the generator.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PillowImage
from torch import Generator, Tensor
from torch.nn import functional as F

from training.architectures.restorer import SIGMA_UNIT

Images = Float[Tensor, "batch channel height width"]
Image = Float[Tensor, "channel height width"]
Sigmas = Float[Tensor, " batch"]

NOISY_QUALITIES = (50, 98)  # of a picture whose noise still shows
QUALITIES = (5, 98)
CAMERA_QUALITIES = (80, 98)
FINE_QUALITIES = (75, 98)  # of what people keep and send
KEPT_QUALITIES, AGAIN_QUALITIES = (95, 98), (94, 98)  # of a file that counts as the photograph, and of its copy
AGAIN_SHARE = 2 / 3
SUBSAMPLINGS = (0, 2)  # Pillow's names of 4:4:4, and 4:2:0, which cameras write and Pillow by default
UNALIGNED_SHARE = 0.25  # of JPEGs: they were cropped later, so blocks begin anywhere
BLOCK = 8

MOST_ENLARGED = 2.0  # how much coarser than a pixel the noise of a camera gets: interpolation, smoothing
RAW_GAINS = ((1.2, 2.4), (1.0, 1.0), (1.2, 2.2))  # white balance of red, green, blue: dim channels are amplified
TO_LUMA = (0.299, 0.587, 0.114)
MID_GREY = 0.214  # linear light of sRGB 0.5, where sRGB rises by MID_SLOPE per unit of light
MID_SLOPE = 1.08


def gaussian(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """Add white Gaussian noise, neither clipped nor rounded, as in the literature."""
    return x + torch.randn(x.shape, generator=generator) * _planes(sigma)


def clipped(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """Add white Gaussian noise, clipped and rounded as in an 8-bit file."""
    return _as_bytes(gaussian(x, sigma, generator))


def poisson(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """Add noise whose variance grows with the signal; `sigma` is that of a mid-grey pixel (0.5).

    Poisson counts by their Gaussian limit, which holds from some ten photons on.
    """
    spread = (x.clamp_min(0.0) / 0.5).sqrt() * _planes(sigma)
    return _as_bytes(x + torch.randn(x.shape, generator=generator) * spread)


def jpeg(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """Add 8-bit noise, then compress as JPEG."""
    return _all_through_jpeg(clipped(x, sigma, generator), NOISY_QUALITIES, generator)


def compressed(x: Images, _: Sigmas, generator: Generator) -> Images:
    """Compress as JPEG of random quality, without noise."""
    return _all_through_jpeg(_as_bytes(x), QUALITIES, generator)


def finely_compressed(x: Images, _: Sigmas, generator: Generator) -> Images:
    """Compress as JPEG of high quality, without noise."""
    return _all_through_jpeg(_as_bytes(x), FINE_QUALITIES, generator)


def camera(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """Simulate a camera: mostly weak noise, mostly saved as JPEG.

    `sigma` is the maximum for a mid-grey pixel. The target is the mean of many shots of the same camera, so mosaic and
    tone curve act on the noise alone.
    """
    shares = torch.rand(len(x), generator=generator)
    noisy = torch.stack([_one_shot(*args, generator) for args in zip(x, (sigma * shares).tolist(), strict=True)])
    noisy, is_jpeg = _as_bytes(noisy), torch.rand(len(x), generator=generator) < 0.7
    if is_jpeg.any():
        noisy[is_jpeg] = _all_through_jpeg(noisy[is_jpeg], CAMERA_QUALITIES, generator)
    return noisy


def clean(x: Images, _: Sigmas, __: Generator) -> Images:
    """Return the picture rounded to 8 bits."""
    return _as_bytes(x)


DEGRADATIONS: dict[str, Callable[[Images, Sigmas, Generator], Images]] = {
    "gaussian": gaussian,
    "clipped": clipped,
    "poisson": poisson,
    "jpeg": jpeg,
    "compressed": compressed,
    "finely_compressed": finely_compressed,
    "camera": camera,
    "clean": clean,
}
# Of these the network is told the standard deviation of all that was added, not the level that was asked for.
TOLD_AS_ADDED = {"compressed", "finely_compressed", "camera", "clean"}


def spoil(x: Images, sigma: Sigmas, kinds: Mapping[str, float], generator: Generator) -> tuple[Images, Sigmas]:
    """Degrade every patch by one of `kinds` (name: share). Also return the noise level for the network."""
    shares = torch.tensor(list(kinds.values()))
    bounds = (shares / shares.sum()).cumsum(0)
    drawn = torch.bucketize(torch.rand(len(x), generator=generator), bounds[:-1], right=True)
    noisy, told = x.clone(), sigma.clone()
    for i, name in enumerate(kinds):
        chosen = drawn == i
        if chosen.any():
            noisy[chosen] = DEGRADATIONS[name](x[chosen], sigma[chosen], generator)
            if name in TOLD_AS_ADDED:
                told[chosen] = added(noisy[chosen], x[chosen])
    return noisy, told


def kept(x: Images, generator: Generator) -> tuple[Images, Images]:
    """Return photographs that have only ever been JPEG files of high quality: what is sent, and the file itself.

    Most are sent as a copy that was saved again, half of them on the same grid of blocks.
    """
    files = _all_through_jpeg(_as_bytes(x), KEPT_QUALITIES, generator)
    is_copy = torch.rand(len(x), generator=generator) < AGAIN_SHARE
    sent = files.clone()
    if is_copy.any():
        sent[is_copy] = _all_through_jpeg(files[is_copy], AGAIN_QUALITIES, generator)
    return sent, files


def added(noisy: Images, x: Images) -> Sigmas:
    """Return the standard deviation of the added error of each picture, in 0-255 units."""
    return (noisy - x).square().mean(dim=(1, 2, 3)).sqrt() * SIGMA_UNIT


def to_linear(x: Tensor) -> Tensor:
    """Convert sRGB values to linear light (IEC 61966-2-1), both in [0, 1]."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """Convert linear light to sRGB values, the inverse of `to_linear`."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def demosaiced(noise: Image, *, row: int, column: int) -> Image:
    """Return noise after a Bayer mosaic and bilinear demosaicing.

    Args:
        noise: Noise of three planes, (3, H, W).
        row: Row of red in the 2x2 pattern, 0 or 1.
        column: Column of red in the 2x2 pattern, 0 or 1.
    """
    height, width = noise.shape[1:]
    rows, columns = torch.arange(height)[:, None] % 2 == row, torch.arange(width)[None] % 2 == column
    sites = torch.stack([rows & columns, rows ^ columns, ~rows & ~columns]).float()
    kernel = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 4
    weights = kernel.expand(3, 1, 3, 3)
    seen = F.conv2d(F.pad((noise * sites)[None], (1, 1, 1, 1), "replicate"), weights, groups=3)
    count = F.conv2d(F.pad(sites[None], (1, 1, 1, 1), "replicate"), weights, groups=3)
    # A pixel keeps what it has seen; the mean of its neighbours is for those that have not.
    return torch.where(sites.bool(), noise, (seen / count.clamp_min(1e-6))[0])


def _one_shot(x: Image, sigma: float, generator: Generator) -> Image:
    u = torch.rand(8, generator=generator).tolist()
    height, width = x.shape[1:]
    coarser = 1.0 + (MOST_ENLARGED - 1.0) * max(0.0, 2 * u[0] - 1)  # in half of the cameras
    size = [max(2, round(side / coarser)) for side in (height, width)]
    rgb = x.expand(3, -1, -1)
    if size != [height, width]:
        rgb = F.interpolate(rgb[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
    light = to_linear(rgb.clamp(0.0, 1.0))
    gains = torch.tensor([low + (high - low) * v for (low, high), v in zip(RAW_GAINS, u[1:4], strict=True)])
    raw = light / gains[:, None, None]
    shot = (
        0.5 + 0.5 * u[4]
    )  # the share of the noise of mid-grey that comes from photons; the rest is there without light
    spread = sigma / SIGMA_UNIT / MID_SLOPE * (shot * raw / MID_GREY + 1 - shot).sqrt()
    noise = demosaiced(torch.randn(raw.shape, generator=generator) * spread, row=int(2 * u[5]), column=int(2 * u[6]))
    added = to_srgb((light + noise * gains[:, None, None]).clamp(0.0, 1.0)) - to_srgb(light)
    if size != [height, width]:
        added = F.interpolate(added[None], (height, width), mode="bilinear", align_corners=False)[0]
    if len(x) == 1:
        added = torch.tensordot(torch.tensor(TO_LUMA), added, dims=1)[None]
    return x + added


def _planes(sigma: Sigmas) -> Float[Tensor, "batch 1 1 1"]:
    return (sigma / SIGMA_UNIT).reshape(-1, 1, 1, 1)


def _as_bytes(x: Images) -> Images:
    return (x.clamp(0.0, 1.0) * SIGMA_UNIT).round() / SIGMA_UNIT


def _all_through_jpeg(x: Images, qualities: tuple[int, int], generator: Generator) -> Images:
    lowest, highest = qualities
    drawn = torch.randint(lowest, highest + 1, (len(x),), generator=generator).tolist()
    samplings = torch.randint(len(SUBSAMPLINGS), (len(x),), generator=generator).tolist()
    is_unaligned = torch.rand(len(x), generator=generator) < UNALIGNED_SHARE
    shifts = torch.randint(2 * BLOCK, (len(x), 2), generator=generator) * is_unaligned[:, None]
    made = []
    for image, quality, sampling, shift in zip(x, drawn, samplings, shifts.tolist(), strict=True):
        moved = through_jpeg(image.roll(shift, (1, 2)), quality, SUBSAMPLINGS[sampling])
        made.append(moved.roll([-s for s in shift], (1, 2)))
    return torch.stack(made)


def through_jpeg(image: Image, quality: int, subsampling: int) -> Image:
    """Compress and decompress a picture as JPEG.

    Args:
        image: Picture, (1 or 3, H, W).
        quality: Quality of libjpeg, 1 to 100.
        subsampling: Chroma subsampling, one of `SUBSAMPLINGS`.
    """
    levels, file = (image * SIGMA_UNIT).round().byte().numpy(), io.BytesIO()
    picture = PillowImage.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, 2))
    picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
    values = np.array(PillowImage.open(file), np.float32).reshape(*levels.shape[1:], len(levels))
    return torch.from_numpy(values / np.float32(SIGMA_UNIT)).permute(2, 0, 1)
