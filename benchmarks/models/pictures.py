"""`python -m benchmarks.models restoration`: the shipped models for pictures and their peers on public test sets.

`python -m benchmarks.models photo-grey` measures that one alone, with its peers. Peers are run if their packages are
installed (pip install bm3d scikit-image). Results are printed, and written into docs/restoration.md between the markers
of each model; picture strips are written to docs/images.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.models.pages import drawn_pages
from benchmarks.models.peers.pictures import denoisers, without_background
from benchmarks.page import write_between
from service.contract.manifest import Manifest
from service.contract.version import manifest_of
from service.images.image import Image
from service.images.noise import level_of
from training.charts import lines
from training.errors import DataError
from training.files import write_atomically
from training.images.pixels import to_pixels
from training.measure.baselines import median_filter
from training.measure.metrics import METRICS
from training.measure.pictures import STUDIO_DB, Restore, SizedGraph, bicubic, thorough
from training.measure.psnr import TEST_NOISE_SEED
from training.picture import middle, rows_of_images
from training.published import newest
from training.randomness import generator_for
from training.restoration.config import RestorationRecipe
from training.restoration.degradations import DEGRADATIONS
from training.restoration.patches import resized
from training.restoration.photos import Pair, read_pairs, read_photos

STRIP_SIDE = 160  # pixels of every picture in a strip
DEFAULT = "default (no parameter)"


@dataclass
class Score:
    """Means over pictures, and the cost."""

    values: list[list[float]] = field(default_factory=list)  # a list a picture, in the order of METRICS
    cpu_s: float = 0.0
    megapixels: float = 0.0

    @property
    def point(self) -> tuple[float, float]:
        """CPU seconds per megapixel, and PSNR in dB."""
        psnr_db = np.mean([values[list(METRICS).index("psnr_db")] for values in self.values])
        return self.cpu_s / self.megapixels, float(psnr_db)

    def row(self, name: str) -> str:
        """Return the cells of a table row."""
        means = zip(METRICS.values(), np.mean(self.values, axis=0), strict=True)
        cells = [f"{mean:.{metric.digits}f}" for metric, mean in means]
        return f"| {name} | {' | '.join(cells)} | {self.cpu_s / self.megapixels:.2f} |"


@dataclass(frozen=True)
class Case:
    """One picture of a test set: input, noise level, and target."""

    x_in: Tensor
    sigma: float
    x: Tensor


def benchmark(
    data: Path,
    models: Path,
    docs: Path,
    *,
    is_quick: bool,
    only: Sequence[str] | None = None,
) -> None:
    """Measure all models whose data is available.

    Args:
        data: Folder with denoise/Set12, denoise/Set5, denoise/Set14, bsds500 and noisy_office_kaggle; missing sets are
            skipped with a message.
        models: Directory of published models.
        docs: Folder with restoration.md and images/.
        is_quick: Use two pictures of every set, and do not write docs.
        only: Names of the models to measure; all if left out.
    """
    for name in only or SECTIONS:
        texts: list[str] = []
        strips: dict[str, bytes] = {}
        try:
            for text, strip in SECTIONS[name](data, models, most=2 if is_quick else 10_000):
                tqdm.write(f"{text}\n")
                texts.append(text)
                strips |= strip
        except DataError as error:
            tqdm.write(f"left out: {error}")
            continue
        if is_quick:
            continue
        write_between(docs / "restoration.md", name, texts)
        for picture, content in strips.items():
            with write_atomically(docs / "images" / f"{picture}.png") as file:
                file.write(content)


Section = Iterator[tuple[str, dict[str, bytes]]]


def _grey(data: Path, models: Path, *, most: int) -> Section:
    served = open_model(models, "photo-grey", "denoise")
    yield _described(models, "photo-grey"), {}
    default = {DEFAULT: default_of(models, "photo-grey")}
    methods = {**_both_ways("photo-grey", served), **default, **denoisers(is_colour=False)}
    for sigma in (15.0, 25.0, 50.0):
        cases = list(noisy(pictures(data / "denoise/Set12", 1, most), sigma, "gaussian"))
        yield from table(
            f"Set12, grey, Gaussian noise of {sigma:g}", methods, cases,
            picture=f"restoration-grey-{sigma:g}", has_front=sigma == 25.0,
        )  # fmt: skip
    kept = [pair.clean for pair in held_out(data, 1)[:most]]
    yield from table("20 held-out pictures of BSDS500, grey, Gaussian noise of 25", methods,
                      list(noisy(kept, 25.0, "gaussian")))  # fmt: skip
    free: dict[str, Restore] = {"median 3x3": lambda x, _: median_filter(x), "unprocessed": lambda x, _: x}
    for kind in ("clipped", "poisson", "jpeg"):
        cases = list(noisy(pictures(data / "denoise/Set12", 1, most), 25.0, kind))
        yield from table(f"Set12, grey, {kind} noise of 25", {"photo-grey": served, **default, **free}, cases)


def _colour(data: Path, models: Path, *, most: int) -> Section:
    served = open_model(models, "photo", "denoise")
    yield _described(models, "photo"), {}
    kept = [pair.clean for pair in held_out(data, 3)[:most]]
    default = {DEFAULT: default_of(models, "photo")}
    other: dict[str, Restore] = {"photo-bsds": open_model(models, "photo-bsds", "denoise")}
    methods = {**_both_ways("photo", served), **default, **other, **denoisers(is_colour=True)}
    yield from table("20 held-out pictures of BSDS500, colour, Gaussian noise of 25", methods,
                      list(noisy(kept, 25.0, "gaussian")), picture="restoration-colour-25", has_front=True)  # fmt: skip


def _enhance(data: Path, models: Path, *, most: int) -> Section:
    served = open_model(models, "photo-x2", "enhance")
    yield _described(models, "photo-x2"), {}
    methods = {**_both_ways("photo-x2", served), "bicubic": lambda x, _: bicubic(x, 2)}
    for name in ("Set5", "Set14"):
        cases = []
        for photo in pictures(data / "denoise" / name, 1, most):
            height, width = (side // 2 * 2 for side in photo.shape[1:])
            large = photo[:, :height, :width]
            cases.append(Case(to_pixels(resized(large, height // 2, width // 2))[None], 0.0, to_pixels(large)[None]))
        yield from table(f"{name}, luma (219 steps), twice as large", methods, cases, edge=2, add_db=STUDIO_DB,
                          picture=f"restoration-{name.lower()}")  # fmt: skip


def _scan(data: Path, models: Path, *, most: int) -> Section:
    served = open_model(models, "scan", "denoise")
    yield _described(models, "scan"), {}
    folder, recipe = data / "noisy_office_kaggle", _recipe(models, "scan")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    pairs = read_pairs(folder / "train", folder / "train_cleaned", 1, validation=recipe.data.validation, least_side=1,
                       progress=False).validation  # fmt: skip
    cases = [Case(to_pixels(pair.degraded)[None], 0.0, to_pixels(pair.clean)[None]) for pair in pairs[:most]]
    methods: dict[str, Restore] = {
        "scan": served,
        "median background removed": lambda x, _: without_background(x),
        "median 3x3": lambda x, _: median_filter(x),
        "unprocessed": lambda x, _: x,
    }
    yield from table("noisy office, pages in a typeface that training has not seen", methods, cases,
                      picture="restoration-scan")  # fmt: skip
    drawn = [Case(dirty, 0.0, clean) for dirty, clean in drawn_pages(24)[:most]]
    yield from table("drawn pages: another text, other typefaces and stains", methods, drawn,
                      picture="restoration-scan-drawn")  # fmt: skip


SECTIONS: dict[str, Callable[..., Section]] = {
    "photo-grey": _grey,
    "photo": _colour,
    "photo-x2": _enhance,
    "scan": _scan,
}


def _both_ways(name: str, served: Restore) -> dict[str, Restore]:
    return {name: served, f"{name}, thorough": thorough(served)}


def default_of(models: Path, name: str) -> Restore:
    """Return the default of the service for a request without a noise level, which uses the estimator."""
    restore, noise = open_model(models, name, "denoise"), newest_manifest(models, name).noise
    assert noise is not None
    return lambda x, _: restore(x, level_of(Image(x.numpy()), noise, channels=x.shape[1]))


def _described(models: Path, name: str) -> str:
    manifest = newest_manifest(models, name)
    made = manifest.provenance
    return f"`{name}`, version {manifest.version}: {made.parameters:,} parameters."


def table(
    title: str,
    methods: dict[str, Restore],
    cases: Iterable[Case],
    *,
    edge: int = 0,
    add_db: float = 0.0,
    picture: str = "",
    has_front: bool = False,
) -> Section:
    """Return a table of all methods, and with `picture`, a strip of their results for the first case.

    Args:
        title: Title of the table.
        methods: Methods by name.
        cases: Pictures to restore.
        edge: Pixels to crop at the border.
        add_db: Added to every PSNR.
        picture: Name of the strip.
        has_front: Draw PSNR over cost, too, as `picture` with `-cost`.
    """
    cases, scores = list(cases), {name: Score() for name in methods}
    shown: dict[str, Tensor] = {}
    for number, case in enumerate(tqdm(cases, desc=title, leave=False)):
        for name, restore in methods.items():
            started = time.process_time()
            x_hat = restore(case.x_in, case.sigma).clamp(0.0, 1.0)
            scores[name].cpu_s += time.process_time() - started
            _add(scores[name], x_hat, case.x, edge, add_db)
            if number == 0 and name != "unprocessed":  # which is the row of the input
                shown[name] = x_hat
    head = [
        f"**{title}** ({len(cases)} pictures)",
        "",
        f"| | {' | '.join(metric.title for metric in METRICS.values())} | CPU s per megapixel |",
        f"| {' | '.join(['---'] * (len(METRICS) + 2))} |",
    ]
    text = "\n".join([*head, *(score.row(name) for name, score in scores.items())])
    first = cases[0]
    enlarged = first.x_in if first.x_in.shape == first.x.shape else bicubic(first.x_in, 2)
    rows = {"input": enlarged.clamp(0, 1), **shown, "clean": first.x}
    pictures = {picture: strip(rows)} if picture else {}
    if has_front:
        points = {name: [score.point] for name, score in scores.items() if name != "unprocessed"}
        pictures[f"{picture}-cost"] = lines(points, x_label="CPU seconds per megapixel", y_label="PSNR, dB", log_x=True)
    yield "\n\n".join([text, *(f"![{title}](images/{name}.png)" for name in pictures)]), pictures


def _add(score: Score, x_hat: Tensor, x: Tensor, edge: int, add_db: float) -> None:
    inner = (..., slice(edge, x.shape[2] - edge), slice(edge, x.shape[3] - edge))
    measured = {key: metric.of(x_hat[inner], x[inner]) for key, metric in METRICS.items()}
    score.values.append([*(measured | {"psnr_db": measured["psnr_db"] + add_db}).values()])
    score.megapixels += x[0, 0].numel() / 1e6


def strip(rows: dict[str, Tensor]) -> bytes:
    """Draw a PNG with the middle of every image, one below the other with its name."""
    return rows_of_images({name: middle(image, STRIP_SIDE) for name, image in rows.items()})


def noisy(photos: Iterable[Tensor], sigma: float, kind: str) -> Iterator[Case]:
    """Yield photographs with noise of one kind, the same at every call."""
    for number, photo in enumerate(photos):
        generator = generator_for(TEST_NOISE_SEED, 1000 * int(sigma) + number)
        x = to_pixels(photo)[None]
        yield Case(DEGRADATIONS[kind](x, torch.full((1,), sigma), generator), sigma, x)


def pictures(folder: Path, channels: int, most: int) -> list[Tensor]:
    """Read the first pictures of a folder."""
    photos = read_photos(folder, channels, validation=0, least_side=1, progress=False)
    return [pair.clean for pair in photos.train][:most]


def held_out(data: Path, channels: int) -> tuple[Pair, ...]:
    """Return the pictures of BSDS500 held out from the training of the shipped models."""
    return read_photos(data / "bsds500", channels, validation=20, least_side=64, progress=False).validation


def open_model(models: Path, name: str, task: str) -> SizedGraph:
    """Open the newest version of a published model.

    Raises:
        DataError: The model has no published version.
    """
    directory, manifest = newest(models, name), newest_manifest(models, name)
    graph = next(graph for t, graph in manifest.tasks.items() if t == task)
    scale = manifest.enhance.scale if manifest.enhance else 1
    return SizedGraph((directory / graph.file).read_bytes(), manifest.input.multiple_of, scale)


def newest_manifest(models: Path, name: str) -> Manifest:
    """Read the manifest of the newest version of a published model."""
    return manifest_of(newest(models, name))


def _recipe(models: Path, name: str) -> RestorationRecipe:
    return RestorationRecipe.model_validate(newest_manifest(models, name).provenance.config)
