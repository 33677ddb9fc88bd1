"""Sections of `benchmarks.models anomaly` for small images: one class of ten as normal, and images of other kinds."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from jaxtyping import Real, UInt8
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.models.peers.one_class import NearestGradients, PixelAutoencoder, ProbabilisticPca, SmallPeer
from benchmarks.page import table
from training.anomaly.aligned import CHUNK, learn_aligned_detector
from training.calibration import Answers, calibration_of
from training.errors import DataError
from training.export import export_graphs
from training.images.mnist import IdxFolder, read_idx_folder
from training.images.pixels import to_pixels
from training.measure.anomaly import auroc
from training.problems.parts import GRAPH
from training.randomness import generator_for

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
KMNIST = "kmnist_t10k"  # folder with KMNIST's 10,000 test images as .npz
CALIBRATION_SHARE, TARGET_FPR = 0.1, 0.01
PROBED = 2000  # images of each kind
EXAMPLES = 16  # images that the exported graph is compared with PyTorch on

Images = Real[Tensor, "_ channel height width"]
Scores = NDArray[np.float32]


@dataclass
class Found:
    """Results of one method: `auroc` by class, an entry per seed, and its cost."""

    auroc: dict[str, list[float]] = field(default_factory=dict)
    flagged: list[float] = field(default_factory=list)
    learning_s: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    megabytes: float = 0.0

    def cells(self, name: str) -> list[str]:
        """Return the cells of a table row."""
        by_class = [float(np.mean(values)) for values in self.auroc.values()]
        seeds = np.mean(list(self.auroc.values()), axis=0)
        spread = f" ({seeds.min():.4f}-{seeds.max():.4f})" if len(seeds) > 1 else ""
        return [
            name, f"{np.mean(by_class):.4f}{spread}", f"{min(by_class):.4f}", f"{np.mean(self.flagged):.3f}",
            f"{np.mean(self.learning_s):.0f}", f"{np.mean(self.ms):.2f}", f"{self.megabytes:.1f}",
        ]  # fmt: skip


class Ours(SmallPeer):
    """The detector, trained as by `fit digits` and run as an exported graph."""

    name = "**this detector**"

    def fit(self, images: Images, seed: int) -> None:
        """Train and export the detector."""
        detector = learn_aligned_detector(images, seed=seed, progress=False)
        with TemporaryDirectory() as folder:
            export_graphs({"anomaly": detector}, {"anomaly": to_pixels(images[:EXAMPLES])}, Path(folder))
            graph = Path(folder) / GRAPH
            self.numbers = graph.stat().st_size // 4
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Images) -> Tensor:
        """Return the scores of images."""
        parts = [to_pixels(part).numpy() for part in torch.split(images, CHUNK)]
        return torch.from_numpy(np.concatenate([self.session.run(["score"], {"x": x})[0] for x in parts]))


def methods() -> list[SmallPeer]:
    """Return the detector and its peers, not yet fitted."""
    return [
        Ours(), PixelAutoencoder(), ProbabilisticPca(sees_gradients=False, directions=32),
        ProbabilisticPca(sees_gradients=True, directions=64), NearestGradients(),
    ]  # fmt: skip


def mnist(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Yield the tables of the tasks in which one digit is normal and the nine others are anomalous."""
    yield one_class("MNIST, one digit normal and nine not", read_idx_folder(data / "mnist"), seeds)


def fashion(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Yield the tables of the tasks in which one kind of garment is normal and the nine others are anomalous."""
    yield one_class("Fashion-MNIST, one kind of garment normal and nine not", _fashion(data), seeds)


def one_class(title: str, parts: IdxFolder, seeds: Sequence[int]) -> str:
    """Measure every class as the normal one: train on its training images, test on all test images.

    A tenth of the training images is held out for calibration. The first seed is used for all methods, the others for
    the detector alone.
    """
    if parts.train_labels is None or parts.test_labels is None:
        raise DataError(f"{title}: the files with labels are missing")
    found: dict[str, Found] = {}
    runs = [(seed, label) for seed in seeds for label in sorted(set(parts.test_labels.tolist()))]
    for seed, label in tqdm(runs, desc=title, unit="class"):
        train = parts.train[parts.train_labels == label][:, None]
        order = torch.randperm(len(train), generator=generator_for(seed, 10))
        kept = int(CALIBRATION_SHARE * len(train))
        calibration, learnt = train[order[:kept]], train[order[kept:]]
        normal, other = (parts.test[(parts.test_labels == label) == same][:, None] for same in (True, False))
        for method in methods() if seed == seeds[0] else [Ours()]:
            entry = found.setdefault(method.name, Found())
            started = time.process_time()
            method.fit(learnt, seed)
            entry.learning_s.append(time.process_time() - started)
            started = time.process_time()
            scores = [method(images).numpy() for images in (calibration, normal, other)]
            images = sum(map(len, scores))
            entry.ms.append(_ms_alone(method, normal) if isinstance(method, Ours) else _ms(started, images))
            entry.megabytes = method.numbers * 4 / 1e6
            entry.auroc.setdefault(str(label), []).append(auroc(scores[1], scores[2]))
            threshold = calibration_of(Answers(scores[0], scores[0]), TARGET_FPR, score="").threshold
            entry.flagged.append(float(np.mean(scores[1] >= threshold)))
    head = (
        f"**{title}**: AUROC of {len(parts.test):,} test images, mean of the ten classes"
        + (f" and {len(seeds)} seeds (range of the seeds); the peers have the first seed." if len(seeds) > 1 else ".")
        + f" A tenth of the training images is kept for calibration, for {TARGET_FPR:.0%} of false alarms."
    )
    columns = ["", "AUROC", "worst class", "good images flagged", "CPU s to fit", "ms per image", "MB"]
    ours = ", ".join(f"{label} {np.mean(values):.4f}" for label, values in found[Ours.name].auroc.items())
    rows = [entry.cells(name) for name, entry in found.items()]
    return f"{head}\n\n{table(columns, rows)}\n\nBy class, this detector: {ours}."


def probes(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Yield the tables for images that are not digits, or not garments, including very simple ones."""
    digits, garments, letters = read_idx_folder(data / "mnist"), _fashion(data), _kmnist(data / KMNIST)
    for title, parts, others in (
        ("digits", digits, {"Fashion-MNIST": garments.test, "KMNIST": letters}),
        ("garments", garments, {"MNIST": digits.test, "KMNIST": letters}),
    ):
        yield probe_table(title, parts, others, seeds)


def probe_table(title: str, parts: IdxFolder, others: dict[str, Tensor], seeds: Sequence[int]) -> str:
    """Return a table of AUROC of each kind of probe against test images: mean over seeds, first seed for peers."""
    normal = parts.test[:PROBED, None]
    kinds = {name: images[:PROBED, None] for name, images in others.items()} | made_up(normal, seeds[0])
    found: dict[str, dict[str, list[float]]] = {name: {} for name in kinds}
    for seed in tqdm(seeds, desc=f"probes of {title}", unit="seed"):
        for method in methods() if seed == seeds[0] else [Ours()]:
            method.fit(parts.train[:, None], seed)
            scores = method(normal).numpy()
            for name, images in kinds.items():
                found[name].setdefault(method.name, []).append(auroc(scores, method(images).numpy()))
    names = list(next(iter(found.values())))
    means = {kind: [float(np.mean(of[name])) for name in names] for kind, of in found.items()}
    means["mean"] = np.mean(list(means.values()), axis=0).tolist()
    head = f"**Trained on all {title}**: AUROC of {len(normal):,} test images against as many that are none."
    rows = [[kind, *(f"{mean:.4f}" for mean in of)] for kind, of in means.items()]
    return f"{head}\n\n{table(['probe', *names], rows)}"


def made_up(normal: Images, seed: int) -> dict[str, Images]:
    """Return synthetic probes: noise, the simplest images, and distorted normal images."""
    generator = generator_for(seed, 11)
    n, _, height, width = normal.shape
    order = torch.randperm(height * width, generator=generator)
    noise, level = (torch.randint(256, size, generator=generator).byte() for size in (normal.shape, (n, 1, 1, 1)))
    return {
        "noise": noise,
        "one grey": level.expand(normal.shape).contiguous(),
        "black": torch.zeros_like(normal),
        "white": torch.full_like(normal, 255),
        "inverted": 255 - normal,
        "pixels shuffled": normal.flatten(2)[:, :, order].reshape(normal.shape),
        "turned by 90°": normal.rot90(1, (2, 3)).contiguous(),
        "turned by 180°": normal.rot90(2, (2, 3)).contiguous(),
    }


SECTIONS: dict[str, Callable[[Path, Sequence[int]], Iterator[str]]] = {
    "mnist": mnist, "fashion": fashion, "probes": probes,
}  # fmt: skip


def _ms(started: float, images: int) -> float:
    return 1000 * (time.process_time() - started) / images


def _ms_alone(method: Ours, images: Images) -> float:
    """Return CPU milliseconds of an image in a batch of one, as at the service."""
    started = time.process_time()
    for image in images[:100]:
        method(image[None])
    return _ms(started, min(100, len(images)))


def _fashion(data: Path) -> IdxFolder:
    beside = data / "fashion-mnist"
    folder = beside if beside.is_dir() else FASHION
    if not folder.is_dir():
        raise DataError(f"Fashion-MNIST is neither in {beside} nor in {FASHION} (Debian: dataset-fashion-mnist)")
    return read_idx_folder(folder)


def _kmnist(folder: Path) -> UInt8[Tensor, "_ height width"]:
    files = [file for file in sorted(folder.glob("*.npz")) if "imgs" in file.name]
    if not files:
        raise DataError(f"{folder}: no .npz with images")
    return torch.from_numpy(np.load(files[0])["arr_0"])
