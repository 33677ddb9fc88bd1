"""`python -m benchmarks.models anomaly`: the detector and its peers on ten sets, with one setting and three seeds.

Every method learns from the same images; features are computed once per set, and their time counts for every method
that uses them. Trivial statistics show which sets need no detector. Results are printed, and written into
docs/anomaly.md between its markers.
"""

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
from benchmarks.models.anomaly_few import few
from benchmarks.models.anomaly_ignore import ignore
from benchmarks.models.anomaly_sets import CASES, NO_RANKING, Case, Shown
from benchmarks.models.anomaly_source import source
from benchmarks.models.peers.anomaly import AnomalibPadim, AnomalibPatchcore, BorderGrey, Padim, Patchcore, Spread
from benchmarks.page import table, write_between
from training.anomaly.backbone import Lite0
from training.anomaly.learn import CHUNK, Found, feature_maps, learn_from_features
from training.anomaly.masks import read_mask
from training.anomaly.report import Answer, figures
from training.calibration import conformal_threshold
from training.errors import DataError
from training.images.pixels import to_pixels
from training.measure.baselines import PixelPca
from training.problems.parts import GRAPH, export_detector
from training.randomness import generator_for

SEEDS = (0, 1, 2)
ASKED = 0.05  # rate of false alarms: what most of the sets are large enough to promise
OURS = "**this detector**"
NAME_BY_FIGURE = {"auroc": "AUROC of images", "pixel_auroc": "AUROC of pixels", "aupro": "AUPRO", "f1_max": "F1-max"}

Maps = NDArray[np.float32]
Section = Callable[[Path, Sequence[int]], Iterator[str]]


@dataclass
class Row:
    """Results of one method on one set, an entry per seed."""

    figures: list[dict[str, float]] = field(default_factory=list)
    learning_s: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    megabytes: float = 0.0

    def mean(self, figure: str) -> float | None:
        """Return the mean over seeds; None if the set does not have the figure."""
        values = [f[figure] for f in self.figures if figure in f]
        return float(np.mean(values)) if values else None


def benchmark(data: Path, _: Path, docs: Path, *, is_quick: bool, only: Sequence[str] = ()) -> None:
    """Measure every available data set.

    Args:
        data: Folder with anomaly, hazelnut_toy, crack_wall, magnetic_tile, mnist and kmnist_t10k.
        docs: Folder with anomaly.md.
        is_quick: Use one seed, and do not write the page.
        only: Sections to measure; all of them if left out.
    """
    for name in only or SECTIONS:
        try:
            lines = list(SECTIONS[name](data, SEEDS[:1] if is_quick else SEEDS))
        except DataError as error:
            tqdm.write(f"left out: {error}")
            continue
        tqdm.write("\n\n".join(lines))
        if not is_quick:
            write_between(docs / "anomaly.md", name, lines)


def parts(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Measure all ten sets. Yield a table per metric, with mean and worst set, then the cost of the detector."""
    found: dict[str, dict[str, Row]] = {}
    sizes: dict[str, str] = {}
    for name, case_of in CASES.items():
        rows: dict[str, Row] = {}
        for seed in seeds:
            run = _Run(case_of(data, seed), seed)
            sizes[name] = f"{len(run.case.taught)} / {len(run.case.good)} / {len(run.case.defects)}"
            for method in tqdm(run.methods(), desc=f"{name}, seed {seed}"):
                method(rows)
        found[name] = rows
        for peer, row in rows.items():
            by_seed = [", ".join(f"{figure} {v:.3f}" for figure, v in values.items()) for values in row.figures]
            tqdm.write(f"{name} {sizes[name]}, {peer}: {'; '.join(by_seed)}")
    yield (
        f"Mean of {len(seeds)} seeds, one configuration for all sets. Numbers of images: training / held-out good / "
        "defective. Peers have features of the same network. kNN (PatchCore) is a bank of 3,000 features selected by "
        "greedy k-centre from all patches; PatchCore of anomalib has as many, selected by the same function, since its "
        "own takes ten minutes for 170,000 patches."
    )
    for figure, title in NAME_BY_FIGURE.items():
        ranked = {name: rows for name, rows in found.items() if name not in NO_RANKING}
        yield f"**{title}**\n\n{_figure_table(ranked, sizes, figure)}"
    flagged = [
        [name, sizes[name], f"{row.mean('flagged'):.3f}", f"{row.mean('band_low'):.3f}-{row.mean('band_high'):.3f}"]
        for name, rows in found.items()
        for row in [rows[OURS]]
    ]
    head = ["", "images", f"good images flagged, target {ASKED:g}", "95 % of chance"]
    yield f"**False alarms**\n\n{table(head, flagged)}"
    cost = [
        [name, f"{np.mean(row.learning_s):.0f}", f"{np.mean(row.ms):.0f}", f"{row.megabytes:.1f}"]
        for name, rows in found.items()
        for row in [rows[OURS]]
    ]
    yield f"**Cost of this detector** on one core\n\n{table(['', 'CPU s to fit', 'ms per image', 'MB'], cost)}"


SECTIONS: dict[str, Section] = {"parts": parts, "few": few, "ignore": ignore, "source": source, **one_class.SECTIONS}


def _figure_table(found: dict[str, dict[str, Row]], sizes: dict[str, str], figure: str) -> str:
    methods = list(next(iter(found.values())))
    lines: list[list[str]] = []
    columns: dict[str, list[float]] = {method: [] for method in methods}
    for name, rows in found.items():
        values = {method: rows[method].mean(figure) for method in methods}
        if values[OURS] is None:
            continue
        for method, value in values.items():
            columns[method] += [] if value is None else [value]
        lines.append([f"{name}, {sizes[name]}", *("-" if v is None else f"{v:.3f}" for v in values.values())])
    lines.append(["mean", *(f"{np.mean(column):.3f}" if column else "-" for column in columns.values())])
    lines.append(["worst", *(f"{min(column):.3f}" if column else "-" for column in columns.values())])
    return table(["", *methods], lines)


class _Run:
    """One set, one seed: its images and features, and all methods on it."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.seed = case, seed
        shown = Shown(case)
        self.recipe, self.images, self.taught = shown.recipe, shown.images, shown.taught
        self.judged = self.images[len(case.taught) :]
        self.masks = np.stack([read_mask(path, shown.config) for path in case.masks]) if case.masks else None
        self.features = Lite0()
        started = time.process_time()
        found = feature_maps(self.features, self.images)
        self.found = Found(found.coarse.half(), found.fine)  # half the memory
        self.features_s = (time.process_time() - started) / len(self.found)

    def methods(self) -> list[Callable[[dict[str, Row]], None]]:
        """Return functions that each measure one method and add it to the rows."""
        peers = [PixelPca(), BorderGrey(), Spread()]
        if AnomalibPadim.is_installed():
            peers += [anomalib(self.features, seed=self.seed) for anomalib in (AnomalibPadim, AnomalibPatchcore)]
        return [
            self._detector,
            *(lambda rows, peer=peer: self._by_features(peer, rows) for peer in (Patchcore(), Padim())),
            *(lambda rows, peer=peer: self._by_images(peer, rows) for peer in peers),
        ]

    def _add(self, rows: dict[str, Row], name: str, answer: Answer, learning_s: float, ms: float) -> Row:
        good = len(self.case.good)
        has_maps = self.masks is not None and answer[1].size > 0
        row = rows.setdefault(name, Row())
        row.figures.append(
            figures(
                (answer[0][:good], answer[1][:good]), (answer[0][good:], answer[1][good:]),
                self.masks if has_maps else None,
            )
        )  # fmt: skip
        row.learning_s.append(learning_s)
        row.ms.append(ms)
        return row

    def _detector(self, rows: dict[str, Row]) -> None:
        started, count = time.process_time(), len(self.taught)
        learnt = learn_from_features(
            self.features, self.found[:count], self.case.groups, self.taught, self.recipe.detector,
            seed=self.seed, progress=False,
        )  # fmt: skip
        learning_s = time.process_time() - started + self.features_s * count
        with TemporaryDirectory() as folder:
            export_detector(learnt.detector, self.taught, Path(folder))
            graph = Path(folder) / GRAPH
            answers, ms = _answers_of(graph, self.judged)
            row = self._add(rows, OURS, answers, learning_s, ms)
            row.megabytes = graph.stat().st_size / 1e6
        good, threshold = len(self.case.good), conformal_threshold(learnt.scores, ASKED)
        drawn = np.random.default_rng(0).binomial(good, ASKED, 100_000) / good
        low, high = np.quantile(drawn, [0.025, 0.975])
        row.figures[-1] |= {
            "flagged": float(np.mean(answers[0][:good] >= threshold)), "band_low": low, "band_high": high
        }  # fmt: skip

    def _by_images(self, peer: PixelPca | BorderGrey | Spread | AnomalibPadim, rows: dict[str, Row]) -> None:
        started = time.process_time()
        peer.fit(self.taught)
        learning_s, started = time.process_time() - started, time.process_time()
        answer = peer(self.judged)
        self._add(rows, peer.name, answer, learning_s, 1000 * (time.process_time() - started) / len(self.judged))

    @torch.no_grad()
    def _by_features(self, peer: Patchcore | Padim, rows: dict[str, Row]) -> None:
        count, started = len(self.taught), time.process_time()
        peer.fit(self.found.coarse[:count].float(), generator_for(self.seed, 8))
        learning_s, started = time.process_time() - started + self.features_s * count, time.process_time()
        maps = torch.cat([peer(part.float()) for part in torch.split(self.found.coarse[count:], CHUNK)])
        ms = 1000 * ((time.process_time() - started) / len(self.judged) + self.features_s)
        size = self.images.shape[2:]
        whole = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
        self._add(rows, peer.name, (maps.flatten(1).amax(1).numpy(), whole), learning_s, ms)


def _answers_of(graph: Path, images: Tensor) -> tuple[Answer, float]:
    """Run the graph on images, one at a time on one thread. Return its answers and the CPU milliseconds per image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": to_pixels(images[:1]).numpy()})
    started = time.process_time()
    answers = [session.run(["score", "map"], {"x": to_pixels(image[None]).numpy()}) for image in images]
    ms = 1000 * (time.process_time() - started) / len(images)
    scores, maps = zip(*answers, strict=True)
    return (np.concatenate(scores), np.concatenate(maps)), ms
