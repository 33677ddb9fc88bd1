"""`python -m benchmarks.models anomaly`: detectors beside their peers on public data, the mean of three seeds.

Every method learns from the same images. Features are computed once per data set and count for every method that uses
them. What is measured goes to the screen, and into docs/anomaly.md between its markers.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.models import one_class
from benchmarks.models.peers.anomaly import AnomalibPadim, Padim, Patchcore
from benchmarks.page import table, write_between
from training.anomaly.backbone import Lite0
from training.anomaly.config import AnomalyRecipe
from training.anomaly.detector import pooled
from training.anomaly.learn import CHUNK, feature_maps, learn_from_features, weigh
from training.anomaly.masks import read_mask
from training.anomaly.measure import aupro, auroc, f1_max, pixel_auroc
from training.anomaly.parts import choose_input, cut
from training.baselines import PixelPca
from training.calibration import Answers, calibration_of
from training.errors import DataError
from training.folder import find_images
from training.images.pixels import stack, to_pixels
from training.images.reader import read_image
from training.problems.parts import GRAPH, export_detector
from training.randomness import generator_for
from training.recipe import load_recipe

SEEDS = (0, 1, 2)
SAME_TILE = 120  # frames: between two pictures of one magnetic tile there are fewer
FRAME = re.compile(r"exp(\d)_num_(\d+)")

Maps = NDArray[np.float32]
Section = Callable[[Path, Sequence[int]], Iterator[str]]


@dataclass(frozen=True)
class Case:
    """A data set: good images with their groups, defects, and their masks where there are any.

    Good images in `kept` are never learnt from or calibrated on. `settings` of the recipe are those that a person who
    knows the parts would give.
    """

    title: str
    good: list[Path]
    groups: list[str]
    defects: list[Path]
    masks: list[Path] | None = None
    kept: frozenset[int] = frozenset()
    settings: tuple[str, ...] = ()


@dataclass
class Row:
    """What one method reached, an entry per seed."""

    figures: list[dict[str, float]] = field(default_factory=list)
    learning_s: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    megabytes: float = 0.0

    def cells(self, name: str) -> list[str]:
        """A row of the table."""
        cells = [name]
        for figure in ("auroc", "f1_max", "pixel_auroc", "aupro", "flagged"):
            values = [f[figure] for f in self.figures if figure in f]
            shown = f"{np.mean(values):.3f}" if values else "-"
            cells.append(f"{shown} ({min(values):.3f}-{max(values):.3f})" if figure == "auroc" and values else shown)
        return [*cells, f"{np.mean(self.learning_s):.0f}", f"{np.mean(self.ms):.0f}", f"{self.megabytes:.1f}"]


def benchmark(data: Path, _: Path, docs: Path, *, is_quick: bool, only: Sequence[str] = ()) -> None:
    """Measures every data set that is there.

    Args:
        data: Folder with hazelnut_toy, crack_wall, magnetic_tile, mnist and kmnist_t10k; what is missing is named.
        docs: Folder with anomaly.md.
        is_quick: One seed, and the page stays as it is.
        only: Sections to measure; all of them if left out.
    """
    for name in only or SECTIONS:
        section = SECTIONS[name]
        try:
            lines = list(section(data, SEEDS[:1] if is_quick else SEEDS))
        except DataError as error:
            tqdm.write(f"left out: {error}")
            continue
        tqdm.write("\n\n".join(lines))
        if not is_quick:
            write_between(docs / "anomaly.md", name, lines)


def hazelnut(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Hazelnuts with spots of colour; the settings were looked at on these."""
    folder = data / "hazelnut_toy"
    good, test = find_images(_there(folder / "train/good")), find_images(_there(folder / "test/good"))
    defects = find_images(folder / "test/colour")
    masks = [folder / "ground_truth/colour" / f"{path.stem}.png" for path in defects]
    kept = frozenset(range(len(good), len(good) + len(test)))
    files = [*good, *test]
    yield case_table(Case("hazelnut_toy", files, [str(p) for p in files], defects, masks, kept), seeds)


def crack_wall(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Concrete walls; there are no masks."""
    folder = data / "crack_wall"
    good = find_images(_there(folder / "negative"))
    yield case_table(Case("crack_wall", good, [str(p) for p in good], find_images(folder / "positive")), seeds)


def magnetic_tile(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Magnetic tiles, every tile photographed up to six times."""
    folder = _there(data / "magnetic_tile")
    photos = sorted(folder.glob("*/*.jpg"))
    good = [path for path in photos if path.parent.name == "Free"]
    defects = [path for path in photos if path.parent.name != "Free"]
    tile_by_path = tiles(photos)
    damaged = {tile_by_path[path] for path in defects}  # also photographed where it shows no defect
    kept = frozenset(i for i, path in enumerate(good) if tile_by_path[path] in damaged)
    groups = [str(tile_by_path[path]) for path in good]
    masks = [path.with_suffix(".png") for path in defects]
    # Pictures are cut out along their tiles, 0.4 to 2.6 times as wide as high: stretched, all of each shows tile.
    stretched = ("data.resize=exact", "data.height=256", "data.width=256")
    yield case_table(Case("magnetic_tile, split by tile", good, groups, defects, masks, kept, stretched), seeds)


SECTIONS: dict[str, Section] = {"hazelnut": hazelnut, "crack": crack_wall, "tile": magnetic_tile, **one_class.SECTIONS}


def tiles(paths: Sequence[Path]) -> dict[Path, int]:
    """Which tile each picture shows, from names like exp3_num_20409: exposures 1 to 6 of one tile in nearby frames."""
    frames = sorted((int(m[2]), int(m[1]), p) for p in paths if (m := FRAME.search(p.name)))
    found: dict[Path, int] = {}
    last_frame, last_exposure, tile = -1, 0, -1
    for frame, exposure, path in frames:
        if tile < 0 or exposure <= last_exposure or frame - last_frame > SAME_TILE:
            tile += 1
        found[path], last_frame, last_exposure = tile, frame, exposure
    return found


def case_table(case: Case, seeds: Sequence[int]) -> str:
    """All methods on one data set."""
    recipe = load_recipe("anomaly", case.settings)
    assert isinstance(recipe, AnomalyRecipe)
    config = choose_input(case.good, recipe.data)
    good, defects = (stack([read_image(p, config) for p in paths]) for paths in (case.good, case.defects))
    masks = np.stack([read_mask(p, config) for p in case.masks]) if case.masks else None
    features = Lite0()
    started = time.process_time()
    found = feature_maps(features, torch.cat([good, defects]), progress=True).half()  # half the memory
    features_s = (time.process_time() - started) / len(found)
    read = _Read(torch.cat([good, defects]), len(good), found, features_s)
    rows: dict[str, Row] = {}
    counts: list[tuple[int, ...]] = []
    for seed in tqdm(seeds, desc=case.title):
        run = _Seed(case, recipe, seed, read)
        counts.append(tuple(map(len, (run.train, run.calibration, run.held_out))))
        for name, (maps, scores, row) in run.methods(features).items():
            entry = rows.setdefault(name, row)
            if entry is not row:
                entry.learning_s += row.learning_s
                entry.ms += row.ms
            entry.figures.append(run.figures(scores, maps, masks))
    learnt, calibrated, held_out = (round(float(n)) for n in np.mean(counts, axis=0))
    head = (
        f"**{case.title}**: {len(good)} good images, {len(defects)} with defects, seen at {config.width}x"
        f"{config.height}. Each seed learns from about {learnt}, calibrates on {calibrated} and measures on all "
        f"defects and the {held_out} good ones that were not learnt from. Mean of {len(seeds)} seeds."
    )
    columns = [
        "", "AUROC (range)", "F1-max", "pixel AUROC", "AUPRO", "good images flagged, asked for 0.01",
        "CPU s to learn", "ms per image", "MB",
    ]  # fmt: skip
    return f"{head}\n\n{table(columns, [row.cells(name) for name, row in rows.items()])}"


@dataclass(frozen=True)
class _Read:
    """All images of a data set, the good ones first, their features, and what the features of one took."""

    images: Tensor
    good_count: int
    found: Tensor
    features_s: float


class _Seed:
    """One split of a data set, and all methods on it."""

    def __init__(self, case: Case, recipe: AnomalyRecipe, seed: int, read: _Read) -> None:
        self.recipe, self.seed = recipe, seed
        self.images, self.found, self.features_s = read.images, read.found, read.features_s
        free = [i for i in range(read.good_count) if i not in case.kept]
        parts = cut([case.groups[i] for i in free], recipe.data, recipe.target_fpr, seed=seed)
        self.train, self.selection, self.calibration, test = (torch.tensor(free)[part] for part in parts)
        self.test = torch.cat([test, torch.tensor(sorted(case.kept), dtype=torch.int64)])
        self.held_out = torch.cat([self.calibration, self.test])
        self.judged = torch.cat([self.held_out, torch.arange(read.good_count, len(read.found))])

    def methods(self, features: Lite0) -> dict[str, tuple[Maps, Maps, Row]]:
        """Name to the maps and scores of what is judged, and what it took."""
        outside = AnomalibPadim(features, seed=self.seed) if AnomalibPadim.is_installed() else None
        found = {
            "**this detector**": self._detector(features),
            PixelPca.name: self._whole(PixelPca()),
            Patchcore.name: self._peer(Patchcore(), features),
            Padim.name: self._peer(Padim(), features),
        }
        if outside:
            found[outside.name] = self._whole(outside)
        return found

    def figures(self, scores: Maps, maps: Maps, masks: NDArray[np.bool_] | None) -> dict[str, float]:
        """Image and pixel figures, and the share of test images that a calibrated threshold flags."""
        normal, anomalous = np.split(scores, [len(self.held_out)])
        answers = Answers(normal[: len(self.calibration)], normal[: len(self.calibration)])
        threshold = calibration_of(answers, self.recipe.target_fpr, score="").threshold
        found = {"auroc": auroc(normal, anomalous), "f1_max": f1_max(normal, anomalous)}
        if len(self.test):
            found["flagged"] = float(np.mean(normal[len(self.calibration) :] >= threshold))
        if masks is not None:
            true = [np.zeros(maps.shape[1:], bool)] * len(self.held_out) + list(masks)
            found |= {"pixel_auroc": pixel_auroc(list(maps), true), "aupro": aupro(list(maps), true)}
        return found

    @torch.no_grad()
    def _detector(self, features: Lite0) -> tuple[Maps, Maps, Row]:
        started = time.process_time()
        with torch.enable_grad():
            detector = learn_from_features(
                features, self.found[self.train].float(), self.recipe.detector, seed=self.seed, progress=False
            )
        weigh(detector, self.images[self.selection], generator_for(self.seed, 4))
        row = Row(learning_s=[time.process_time() - started + self.features_s * len(self.train)])
        maps, scores = [], []
        for part in torch.split(self.judged, CHUNK):
            evidence = detector.maps(detector.projection(self.found[part].float()))
            scores.append(detector.score(pooled(evidence)).numpy())
            maps.append(detector.whole_map(evidence, (self.images.shape[2], self.images.shape[3])).numpy())
        with TemporaryDirectory() as folder:
            export_detector(detector, self.images[self.train], Path(folder))
            row.megabytes = (Path(folder) / GRAPH).stat().st_size / 1e6
            row.ms.append(_ms_of_graph(Path(folder) / GRAPH, to_pixels(self.images[self.judged[:10]]).numpy()))
        return np.concatenate(maps), np.concatenate(scores), row

    def _whole(self, peer: PixelPca | AnomalibPadim) -> tuple[Maps, Maps, Row]:
        started = time.process_time()
        peer.fit(self.images[torch.cat([self.train, self.selection])])
        row = Row(learning_s=[time.process_time() - started], megabytes=peer.size * 4 / 1e6)
        started = time.process_time()
        scores, maps = peer(self.images[self.judged])
        row.ms.append(1000 * (time.process_time() - started) / len(self.judged))
        return maps, scores, row

    @torch.no_grad()
    def _peer(self, peer: Patchcore | Padim, features: Lite0) -> tuple[Maps, Maps, Row]:
        learnt = torch.cat([self.train, self.selection])
        started = time.process_time()
        peer.fit(self.found[learnt].float(), generator_for(self.seed, 8))
        row = Row(learning_s=[time.process_time() - started + self.features_s * len(learnt)])
        kept = [peer.precision, peer.mean] if isinstance(peer, Padim) else [peer.neighbours.bank]
        row.megabytes = sum(t.numel() for t in [*kept, *features.parameters(), *features.buffers()]) * 4 / 1e6
        started = time.process_time()
        maps = torch.cat([peer(self.found[part].float()) for part in torch.split(self.judged, CHUNK)])
        row.ms.append(1000 * ((time.process_time() - started) / len(self.judged) + self.features_s))
        size = self.images.shape[2:]
        whole = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
        return whole, maps.flatten(1).amax(1).numpy(), row


def _ms_of_graph(graph: Path, x: Maps) -> float:
    """CPU milliseconds per image, one at a time, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": x[:1]})
    started = time.process_time()
    for image in x:
        session.run(None, {"x": image[None]})
    return 1000 * (time.process_time() - started) / len(x)


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder
