"""`python -m benchmarks.models photo-compression`: the shipped model, JPEG, WebP, AVIF and JPEG XL.

Held-out photographs are written to files, read again and measured; figures and the curve are written into
docs/compression.md.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from tqdm import tqdm

from benchmarks.page import table, write_between
from service.contract.colour import TO_YCC, sizes_of_planes
from service.contract.plane_coder import pack_grids, places_of, unpack_grids
from service.contract.tables import Grid, RatePoint
from service.contract.version import manifest_of
from training.compression.photo_config import PhotoCodecRecipe
from training.compression.tables import CONTEXTS, ONE_CONTEXT, fit_grid_tables
from training.errors import DataError
from training.files import write_atomically
from training.measure.plane_files import (
    QUALITIES,
    Photo,
    PlaneCodec,
    measure_all,
    served_codec,
    torch_codec,
    unaligned,
)
from training.measure.rate import Codec, Point, bd_rate, best, draw_curves, lossy_codecs, lossy_curve, sheet_of, size_at
from training.problems.grids import build_network
from training.published import newest
from training.restoration.photos import read_photos

MODEL = "photo-compressed"
START = "DCT, same tables"
PAGE, CHART = "compression.md", "images/compression-photos.png"
SIDE = 256  # pixels of the middle of a photograph, which tables are fitted to
QUICK = 12  # photographs for tables


def benchmark(data: Path, models: Path, docs: Path, *, is_quick: bool) -> None:
    """Measure the newest version of `photo-compressed` on the photographs held out from its training.

    Args:
        data: The folder bsds500, or its parent.
        models: Directory of published models.
        docs: Folder with compression.md and images/.
        is_quick: Fit the tables of baselines to 12 photographs, and do not write docs.

    Raises:
        DataError: The model is missing, or the photographs are not those of its training.
        VerifyError: A file read differs from the file written.
    """
    directory = newest(models, MODEL)
    manifest = manifest_of(directory)
    recipe = PhotoCodecRecipe.model_validate(manifest.provenance.config)
    folder = data / "bsds500" if (data / "bsds500").is_dir() else data
    least = 2 * recipe.training.patch
    photos = read_photos(folder, 3, validation=recipe.data.validation, least_side=least, progress=True)
    if photos.sha256 != manifest.provenance.data.sha256:
        raise DataError(f"{folder} does not hold the photographs that {directory} was trained on")
    assert manifest.compression is not None
    points = manifest.compression.rates
    codec = served_codec(directory, recipe.rates)
    colour = [unaligned(pair.clean) for pair in photos.validation]
    grey = [_grey(photo) for photo in colour]
    counted = [_grey(_middle(unaligned(pair.clean))) for pair in photos.train[: QUICK if is_quick else None]]
    start = torch_codec(build_network(recipe).eval())
    plain = measure_all(start, _points(start, counted, CONTEXTS), CONTEXTS, grey, name=MODEL, what=START, progress=True)
    flat = _points(codec, counted, ONE_CONTEXT)
    without = measure_all(codec, flat, ONE_CONTEXT, grey, name=MODEL, what="without contexts", progress=True)
    lines = [
        f"BSDS500, {len(colour)} whole photographs that training did not have ({len(photos.train)} others), "
        f"`{MODEL}` version {manifest.version}, a file each, headers included."
    ]
    curves = {}
    for what, images in (("Grey", grey), ("Colour", colour)):
        measured = measure_all(codec, points, CONTEXTS, images, name=MODEL, what=what, progress=True)
        beside = {START: plain} if what == "Grey" else {}
        for name, (write, _) in tqdm(lossy_codecs().items(), desc="others", leave=False):
            beside[name] = best(lossy_curve([image[None] for image in images], write, QUALITIES[name]))
        pixels = float(np.mean([image[0].size for image in images]))
        lines += [f"**{what}**", _table(measured, without if what == "Grey" else None, beside, pixels=pixels)]
        curves[what] = {MODEL: measured, **beside}
    lines += ["CPU seconds per megapixel of colour:", _speeds(codec, points, recipe.default_rate, colour)]
    for line in lines:
        tqdm.write(f"{line}\n")
    if is_quick:
        return
    picture = f"![PSNR over bytes of a colour photograph]({CHART})"
    write_between(docs / PAGE, "photos", [*lines, picture])
    with write_atomically(docs / CHART) as file:
        file.write(draw_curves(curves["Colour"], around=curves["Colour"][MODEL]))


def _points(codec: PlaneCodec, photos: Sequence[Photo], grid: Grid) -> list[RatePoint]:
    """Fit tables to grey photographs at every rate."""
    made = []
    for rate in tqdm(range(codec.rates), desc="tables", unit="rate", leave=False):
        tables = fit_grid_tables([codec.symbols(photo, rate)[0] for photo in photos], grid)
        made.append(RatePoint(tables=tables, images_per_file=1, bytes_per_image=1.0, psnr_db=0.0))
    return made


def _table(points: list[Point], without: list[Point] | None, others: dict[str, list[Point]], *, pixels: float) -> str:
    """Return a table with a row per rate: bits per pixel, those of other codecs at the same PSNR, and the BD-rate."""
    bytes_of_a_bit = pixels / 8
    head = ["rate", "PSNR, dB", "bits per pixel", *(["without contexts"] if without else [])]
    rows = []
    for rate, point in enumerate(points):
        cells = [f"{rate}", f"{point.psnr_db:.2f}", f"**{point.bytes_per_image / bytes_of_a_bit:.3f}**"]
        cells += [f"{without[rate].bytes_per_image / bytes_of_a_bit:.3f}"] if without else []
        for curve in others.values():
            size = size_at(curve, point.psnr_db)
            cells.append("-" if size is None else f"{size / bytes_of_a_bit:.3f} ({size / point.bytes_per_image:.2f}x)")
        rows.append(cells)
    beside = [*([without] if without else []), *others.values()]
    rows.append(["", "BD-rate", "", *(f"{100 * bd_rate(points, curve):+.1f} %" for curve in beside)])
    return table([*head, *(f"{name}, same PSNR" for name in others)], rows)


def _speeds(codec: PlaneCodec, points: Sequence[RatePoint], rate: int, photos: Sequence[Photo]) -> str:
    """Return a table of the time to write and read a file, a row per method.

    The model uses its default rate, and the others the middle one of their qualities.
    """
    tables = points[rate].tables_of_planes(3)

    def write_ours(photo: Photo) -> bytes:
        return pack_grids(list(zip(codec.symbols(photo, rate, tables), tables, strict=True)), CONTEXTS)

    def read_ours(file: bytes, photo: Photo) -> None:
        height, width = photo.shape[1:]
        shapes = [places_of(*plane) for plane in sizes_of_planes(height, width, 3)]
        codec.photo(unpack_grids(file, shapes, tables, CONTEXTS), (height, width), rate)

    rows = [_speed(MODEL, write_ours, read_ours, photos)]
    for name, (write, _) in lossy_codecs().items():
        quality = QUALITIES[name][len(QUALITIES[name]) // 2]
        rows.append(_speed(name, partial(_as_file, write, quality), _read, photos))
    return table(["", "write", "read"], rows)


def _speed(
    name: str, write: Callable[[Photo], bytes], read: Callable[[bytes, Photo], None], photos: Sequence[Photo]
) -> list[str]:
    megapixels = sum(photo[0].size for photo in photos) / 1e6
    started = time.process_time()
    files = [write(photo) for photo in photos]
    between = time.process_time()
    for file, photo in zip(files, photos, strict=True):
        read(file, photo)
    seconds = (between - started, time.process_time() - between)
    return [name, *(f"{s / megapixels:.3f}" for s in seconds)]


def _as_file(write: Codec, quality: int, photo: Photo) -> bytes:
    return write(sheet_of(photo[None]), quality)


def _read(file: bytes, _: Photo) -> None:
    with PillowImage.open(BytesIO(file)) as image:
        image.load()


def _middle(photo: Photo) -> Photo:
    # Their blocks would meet those of the JPEG that the photograph was, if it began at a multiple of eight.
    top, left = ((side - SIDE) // 2 // 8 * 8 for side in photo.shape[1:])
    return np.ascontiguousarray(photo[:, top : top + SIDE, left : left + SIDE])


def _grey(photo: Photo) -> Photo:
    values: Photo = np.rint(np.tensordot(TO_YCC[:1], photo.astype(np.float32), axes=1)).astype(np.uint8)
    return values
