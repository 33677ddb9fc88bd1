"""Classical codecs as baselines of compression: a sheet of images as one JPEG, WebP, AVIF, JPEG XL or PNG."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8
from PIL import Image, features

from training.charts import lines
from training.measure.psnr import psnr_db

WIDEST_STEP_DB = 3.0  # WebP's lowest qualities are 2.7 dB apart; JPEG XL jumps by 8

Bytes = UInt8[np.ndarray, "image channel height width"]


@dataclass(frozen=True)
class Point:
    """A point of a rate-distortion curve: bytes per image and PSNR."""

    bytes_per_image: float
    psnr_db: float


Codec = Callable[[Image.Image, int], bytes]


def lossy_codecs() -> dict[str, tuple[Codec, Sequence[int]]]:
    """Return the lossy formats that this Pillow can write: name to (picture, quality -> file) and qualities to try."""
    codecs: dict[str, tuple[Codec, Sequence[int]]] = {
        "JPEG": (_writer("JPEG", optimize=True), range(1, 96, 3)),
        "WebP": (_writer("WEBP", method=6), (0, 1, 2, 3, 4, 6, 8, 12, 20, 40, 80)),
    }
    if features.check("avif"):
        codecs["AVIF"] = (_writer("AVIF", speed=6), (4, 6, 8, 10, 12, 15, 20, 40, 80))
    try:
        importlib.import_module("pillow_jxl")  # it registers itself with Pillow
    except ImportError:
        return codecs
    codecs["JPEG XL"] = (_writer("JXL", lossless=False, effort=7), (1, 10, 18, 19, 22, 30, 50, 80))
    return codecs


def sheet_of(images: Bytes) -> Image.Image:
    """Lay out the images as one picture with about as many rows as columns; the rest of the last row is black."""
    count, channels, height, width = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    filled = np.zeros((rows * columns, channels, height, width), np.uint8)
    filled[:count] = images
    grid = filled.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)  # row, y, column, x, channel
    sheet = grid.reshape(rows * height, columns * width, channels)
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def lossy_curve(sheets: Sequence[Bytes], codec: Codec, qualities: Sequence[int]) -> list[Point]:
    """Measure a point per quality: bytes per image, and the PSNR over all pixels of all sheets."""
    pictures = [sheet_of(images) for images in sheets]
    images, pixels = sum(map(len, sheets)), sum(np.asarray(picture).size for picture in pictures)
    points = []
    for quality in qualities:
        size, squares = 0, 0.0
        for picture in pictures:
            file = codec(picture, quality)
            size += len(file)
            with Image.open(BytesIO(file)) as read:
                back = np.asarray(read.convert(picture.mode), np.float64)
            squares += float(np.square((back - np.asarray(picture)) / 255.0).sum())
        points.append(Point(size / images, psnr_db(max(squares / pixels, 1e-10))))
    return points


def best(points: Sequence[Point]) -> list[Point]:
    """Return the Pareto front of points: the quality settings of JPEG XL are not always monotonic."""
    return [
        p for p in points if not any(q.bytes_per_image < p.bytes_per_image and q.psnr_db > p.psnr_db for q in points)
    ]


def lossless_size(sheets: Sequence[Bytes]) -> float:
    """Return bytes per image of the sheets as PNG."""
    write = _writer("PNG", optimize=True)
    return sum(len(write(sheet_of(images), 0)) for images in sheets) / sum(map(len, sheets))


def size_at(points: Sequence[Point], psnr: float) -> float | None:
    """Interpolate the bytes per image at a PSNR between the two points around it.

    None if the curve does not reach it, or the two points are more than `WIDEST_STEP_DB` apart.
    """
    below = [p for p in points if p.psnr_db <= psnr]
    above = [p for p in points if p.psnr_db >= psnr]
    if not below or not above:
        return None
    low = max(below, key=lambda p: p.psnr_db)
    high = min(above, key=lambda p: p.psnr_db)
    if high.psnr_db == low.psnr_db:
        return low.bytes_per_image
    if high.psnr_db - low.psnr_db > WIDEST_STEP_DB:
        return None
    share = (psnr - low.psnr_db) / (high.psnr_db - low.psnr_db)
    return low.bytes_per_image + share * (high.bytes_per_image - low.bytes_per_image)


def bd_rate(points: Sequence[Point], anchor: Sequence[Point]) -> float:
    """Return the mean change in bytes at equal PSNR against the anchor: -0.4 for 40 % fewer bytes.

    This is Bjøntegaard's delta rate (VCEG-M33), with the logarithm of the bytes interpolated linearly over PSNR. Both
    curves are averaged over the PSNRs that both reach.
    """
    curves = [np.array(sorted((p.psnr_db, np.log(p.bytes_per_image)) for p in curve)).T for curve in (points, anchor)]
    at = np.linspace(max(psnr[0] for psnr, _ in curves), min(psnr[-1] for psnr, _ in curves), 1000)
    ours, theirs = (np.interp(at, psnr, log_bytes) for psnr, log_bytes in curves)
    return float(np.exp(np.mean(ours - theirs)) - 1)


def widest_gap(points: Sequence[Point], psnr: float) -> tuple[Point, Point] | None:
    """Return the first two neighbours too far apart for `size_at`, if they begin below that PSNR."""
    ordered = sorted(points, key=lambda p: p.psnr_db)
    pairs = pairwise(ordered)
    return next((p for p in pairs if p[1].psnr_db - p[0].psnr_db > WIDEST_STEP_DB and p[0].psnr_db < psnr), None)


def draw_curves(curves: dict[str, list[Point]], *, around: list[Point]) -> bytes:
    """Draw PSNR over bytes per image of each method as PNG, for the PSNRs of `around` and a little beyond."""
    low, high = min(p.psnr_db for p in around) - 2.0, max(p.psnr_db for p in around) + 2.0
    shown = {
        label: sorted((p.bytes_per_image, p.psnr_db) for p in points if low <= p.psnr_db <= high)
        for label, points in curves.items()
    }
    return lines(
        {label: points for label, points in shown.items() if points},
        x_label="bytes per image", y_label="PSNR, dB", log_x=True,
    )  # fmt: skip


def _writer(kind: str, **options: bool | int) -> Codec:
    def write(picture: Image.Image, quality: int) -> bytes:
        file = BytesIO()
        chosen = options if kind == "PNG" else {**options, "quality": quality}
        picture.save(file, kind, **chosen)
        return file.getvalue()

    return write
