"""Published models as functions of arrays, with the same results as the service."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.contract.manifest import Manifest, Task
from service.errors import RequestError
from service.images.resize import plan_placement
from training.errors import DataError, RunError
from training.images.reader import read_pixels
from training.publish import newest_version
from training.verify import verify


@dataclass(frozen=True)
class Published:
    """A version of a model.

        model = open_model("models/digits")
        x_hat = model.run("denoise", model.read("digit.png"))["x_hat"]

    Attributes:
        directory: Directory of the version.
        manifest: Manifest with tasks, tensors, metrics and thresholds.
    """

    directory: Path
    manifest: Manifest

    def read(self, path: Path | str) -> NDArray[np.float32]:
        """Read an image file as the service does: (1, C, H, W), pixels in [0, 1].

        Raises:
            DataError: The service would reject the file or its size.
        """
        spec = self.manifest.input
        image = read_pixels(Path(path), spec.channels)
        x = image / np.float32(255) if image.dtype == np.uint8 else image
        try:
            placed: NDArray[np.float32] = plan_placement(spec, *x.shape[1:]).place(x[None].astype(np.float32))
        except RequestError as error:
            raise DataError(f"{path}: {error}") from error
        return placed

    def run(self, task: Task, *inputs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Run the graph of a task and return its outputs by name.

        Args:
            task: One of `manifest.tasks`.
            inputs: A tensor for each input of its graph, in that order, float32 with the batch along the first axis.

        Raises:
            RunError: The model does not offer the task.
        """
        if task not in self.manifest.tasks:
            offered = ", ".join(sorted(self.manifest.tasks))
            raise RunError(f"model {self.manifest.name} cannot {task}; it offers {offered}")
        graph = self.manifest.tasks[task]
        feed = dict(zip((tensor.name for tensor in graph.inputs), inputs, strict=True))
        answers = _session(self.directory / graph.file).run(None, feed)
        return {tensor.name: answer for tensor, answer in zip(graph.outputs, answers, strict=True)}


def open_model(directory: Path | str) -> Published:
    """Open a published model, with the checks of the service.

    Args:
        directory: `models/<name>/<version>`, or `models/<name>` for the newest version.

    Raises:
        VerifyError: A file is missing or differs from the manifest.
    """
    path = Path(directory)
    version = path if (path / "manifest.json").exists() else newest_version(path) or path
    return Published(version, verify(version))


def newest(models: Path, name: str) -> Path:
    """Find the newest version of a published model.

    Args:
        models: Directory of published models.
        name: Model name.

    Raises:
        DataError: The model has no published version.
    """
    if (directory := newest_version(models / name)) is None:
        raise DataError(f"{models / name}: no such model; train it with `python -m training fit {name}`")
    return directory


@cache
def _session(graph: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
