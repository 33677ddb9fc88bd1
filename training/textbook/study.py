"""Shared by the sections: the digits, trained networks, and figures with their origin."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor, nn
from tqdm import tqdm

from service.contract.manifest import Task
from training.config import CorruptionConfig, Recipe
from training.errors import DataError
from training.exported import served
from training.files import write_atomically
from training.graphs import Denoise
from training.images.dataset import Dataset, load_data
from training.images.mnist import IdxFolder, download, read_idx_folder
from training.measure.psnr import mean_squared_error
from training.problems import one_size
from training.problems.problem import Places
from training.publish import newest_version
from training.recipe import load_recipe
from training.run import REPORT, Sources
from training.stages import begin, train_stage

SAMPLE = Path(__file__).parent / "sample"
QUICK = ("training.batch_size=64",)  # in a sample of 2,000 larger batches would leave too few steps
SEED = 0
# A small convolutional network, overrides of the recipe `plain`.
CONVOLUTIONAL = (
    "architecture.name=conv",
    "architecture.options={latent_dim=32, widths=[8, 16], blocks=[0, 1], neck=8, hidden=128}",
)


@dataclass(frozen=True)
class Trained:
    """A trained network, its recipe, its losses by epoch, and the command that reproduces it."""

    model: nn.Module
    recipe: Recipe
    history: tuple[dict[str, int | float], ...]
    command: str


class Study:
    """One reproduction of the chapter.

    Args:
        folder: MNIST's four files; downloaded if None. With `is_quick`, the sample in the repository.
        models: Directory of published models.
        runs: Directory of trained networks, from which an interrupted study resumes.
        docs: Directory of the page and its `images/`.
        is_quick: Use little data and few epochs, for a smoke test.
        progress: Show progress bars.
    """

    def __init__(
        self, folder: Path | None, *, models: Path, runs: Path, docs: Path, is_quick: bool, progress: bool
    ) -> None:
        self.folder = SAMPLE if is_quick else folder or download()
        self.models, self.docs, self.is_quick, self.progress = models, docs, is_quick, progress
        self.runs = runs / ("textbook-quick" if is_quick else "textbook")
        self.digits: IdxFolder = read_idx_folder(self.folder)
        if self.digits.train_labels is None or self.digits.test_labels is None:
            raise DataError(f"{self.folder}: the chapter needs the two files with labels, too")
        self.train_labels: UInt8[Tensor, " train"] = self.digits.train_labels
        self.test_labels: UInt8[Tensor, " test"] = self.digits.test_labels
        self.data: Dataset = load_data(load_recipe("plain", of=Recipe).data, self.folder, seed=SEED)
        self._in_training_s = self._trained_s = 0.0

    @property
    def data_name(self) -> str:
        """Description of the data in the figures."""
        name = "a sample of MNIST" if self.is_quick else "MNIST"
        return f"{name}, {len(self.data.train):,} training and {len(self.data.test):,} test images"

    def train(self, name: str, recipe_name: str, *overrides: str, epochs: int, quick_epochs: int) -> Trained:
        """Train a network by a recipe, or load it from the run of an earlier study.

        Args:
            name: Name of the run.
            recipe_name: See `python -m training --help`.
            overrides: Overrides of its fields.
            epochs: Number of epochs.
            quick_epochs: Number of epochs in a quick study.
        """
        started = time.process_time()
        words = (*overrides, *(QUICK if self.is_quick else ()))
        words = (*words, f"training.epochs={quick_epochs if self.is_quick else epochs}")
        recipe = load_recipe(recipe_name, words, of=Recipe)
        data = SAMPLE.relative_to(Path(__file__).parents[2]) if self.is_quick else "mnist"
        command = shlex.join(["python", "-m", "training", "fit", recipe_name, "--data", str(data), *words])
        places = Places(runs=self.runs, device="cpu", progress=self.progress)
        run = begin(recipe, Sources(data=self.folder), places, name=name, command=command)
        if not run.path(REPORT).exists():
            tqdm.write(f"{name}: {command}")
            train_stage(run, places)
        content = run.read(REPORT, "train")
        self._trained_s += content["cpu_s"]
        trained = Trained(one_size.trained(recipe, run.directory), recipe, tuple(content["history"]), command)
        self._in_training_s += time.process_time() - started
        return trained

    def spent_s(self) -> float:
        """Return the CPU seconds so far, including those of trainings of earlier studies."""
        return time.process_time() - self._in_training_s + self._trained_s

    def test_mse(self, trained: Trained, corruption: CorruptionConfig | None = None) -> float:
        """Return the mean squared error of the network on the test images, corrupted if `corruption` is given."""
        return mean_squared_error(Denoise(trained.model), self.data.test, corruption)

    def shipped(self, name: str, task: Task) -> Callable[[Tensor], Tensor] | None:
        """Return a graph of the newest published version of a model as a function of tensors.

        Return None if the model is not published.
        """
        directory = newest_version(self.models / name)
        if directory is None or not (directory / f"{task}.onnx").exists():
            tqdm.write(f"left out: {self.models / name} has no {task}; see docs/training.md to train it")
            return None
        return served(directory / f"{task}.onnx")

    def figure(self, name: str, png: bytes, caption: str, since_s: float) -> str:
        """Write a picture, and return its Markdown with the origin below.

        Args:
            name: Name of the file, without `textbook-`.
            png: Content of the file.
            caption: Caption of the picture.
            since_s: `spent_s()` at the start of the work for it.
        """
        folder = self.docs / "images"
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / f"textbook-{name}.png") as file:
            file.write(png)
        return f"![{caption}](images/textbook-{name}.png)\n\n{self.origin(caption, since_s)}"

    def origin(self, caption: str, since_s: float) -> str:
        """Return the caption of a picture or table with its command, data, seed and CPU seconds."""
        command = "python -m training textbook" + (" --quick" if self.is_quick else " --data mnist")
        spent_s = self.spent_s() - since_s
        spent = f"{spent_s:.0f}" if spent_s >= 10 else f"{spent_s:.1f}"
        return f"*{caption} `{command}`: {self.data_name}, seed {SEED}, {spent} CPU-seconds.*"
