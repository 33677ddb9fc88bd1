"""`python -m benchmarks.models compression`: files of the shipped model, JPEG, WebP, AVIF, JPEG XL and PNG.

Results are printed, written into docs/compression.md between its two markers, and drawn as a chart in docs/images.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.page import write_between
from service.contract.tables import Compression
from service.contract.version import manifest_of
from training.errors import DataError
from training.files import write_atomically
from training.images.mnist import read_idx_folder
from training.images.pixels import to_pixels
from training.measure.rate import (
    Bytes,
    Point,
    draw_curves,
    lossless_size,
    lossy_codecs,
    lossy_curve,
    size_at,
    widest_gap,
)
from training.measure.row_files import Images, ServedCodec, measure_all
from training.published import newest

MODEL = "digits-compressed"
SINGLES = 200  # images for files of one image each
EVERY = 10  # of the test images: 1000 of MNIST's, a minute of AVIF and JPEG XL instead of ten
QUICK = 200  # images


def benchmark(data: Path, models: Path, docs: Path, *, is_quick: bool) -> None:
    """Measure the newest version of `digits-compressed` on the test images of MNIST.

    Args:
        data: Folder of MNIST's four files, or its parent.
        models: Directory of published models.
        docs: Folder with compression.md and images/.
        is_quick: Use 200 images, and do not write docs.

    Raises:
        DataError: The model or MNIST is missing.
    """
    directory = newest(models, MODEL)
    manifest = manifest_of(directory)
    if manifest.compression is None:
        raise DataError(f"{directory} does not compress")
    codec = ServedCodec(directory)
    images = read_idx_folder(data / "mnist" if (data / "mnist").is_dir() else data).test[:, None].numpy()
    images = images[:QUICK] if is_quick else images[::EVERY]
    count = manifest.compression.rates[0].images_per_file
    part = "the first" if is_quick else f"every {EVERY}th of the test images,"
    lines = [f"MNIST, {part} {len(images)}, `{MODEL}` version {manifest.version}, headers included."]
    lines += [f"**{count} images in a file**; for the others, as one picture of {count} images:"]
    table, curves = _compare(codec, manifest.compression, images, per_file=count)
    lines += [table]
    singles = images[:: max(1, len(images) // SINGLES)][:SINGLES]
    lines += [f"**One image in a file**, {len(singles)} of them:"]
    table, _ = _compare(codec, manifest.compression, singles, per_file=1)
    lines += [table, "![PSNR over bytes per image, 100 images in a file](images/compression-digits.png)"]
    for line in lines:
        tqdm.write(f"{line}\n")
    if is_quick:
        return
    write_between(docs / "compression.md", "measured", lines)
    with write_atomically(docs / "images/compression-digits.png") as file:
        file.write(draw_curves(curves, around=curves[MODEL]))


def _compare(
    codec: ServedCodec, compression: Compression, images: Bytes, *, per_file: int
) -> tuple[str, dict[str, list[Point]]]:
    """Return a table with a row per rate and the bytes of other codecs at the same PSNR, and the curves of all."""
    x: Images = to_pixels(torch.from_numpy(images)).numpy()
    points = measure_all(MODEL, codec, compression, x, images_per_file=per_file, progress=True)
    sheets = [images[start : start + per_file] for start in range(0, len(images), per_file)]
    others = {
        name: lossy_curve(sheets, write, qualities)
        for name, (write, qualities) in tqdm(lossy_codecs().items(), desc="others", leave=False)
    }
    rows = [f"| rate | PSNR, dB | bytes per image | {' | '.join(f'{name}, same PSNR' for name in others)} |"]
    rows += ["| --- " * (3 + len(others)) + "|"]
    rows += [_row(rate, point, others.values()) for rate, point in enumerate(points)]
    rows += ["", f"PNG, without loss: {lossless_size(sheets):.0f} bytes per image."]
    rows += [_gap(name, *gap) for name, curve in others.items() if (gap := widest_gap(curve, points[-1].psnr_db))]
    return "\n".join(rows), {MODEL: points, **others}


def _gap(name: str, low: Point, high: Point) -> str:
    return (
        f"{name} has nothing between {low.bytes_per_image:.0f} bytes at {low.psnr_db:.1f} dB and "
        f"{high.bytes_per_image:.0f} at {high.psnr_db:.1f} dB."
    )


def _row(rate: int, point: Point, others: Iterable[list[Point]]) -> str:
    cells = [f"{rate}", f"{point.psnr_db:.2f}", f"**{point.bytes_per_image:.1f}**"]
    for curve in others:
        size = size_at(curve, point.psnr_db)
        cells.append("-" if size is None else f"{size:.1f} ({size / point.bytes_per_image:.1f}x)")
    return f"| {' | '.join(cells)} |"
