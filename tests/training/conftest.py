"""Shapes in annotations are checked while the tests of training run, and small data sets are made here."""

import functools
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.export.decomp_utils
import torch.export.exported_program
from jaxtyping import install_import_hook
from numpy.typing import NDArray
from PIL import Image
from torch.onnx._internal.exporter._registration import ONNXRegistry

install_import_hook(["training", "benchmarks.models"], "beartype.beartype")
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def exporter_is_set_up_once() -> Iterator[None]:
    """The exporter reads tables of operators for every graph, which takes most of the time of a small one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_collect_all_valid_cia_ops", "_collect_all_valid_cia_ops_for_aten_namespace"):
            operators = functools.cache(getattr(torch._export.utils, name))
            for module in (torch.export.exported_program, torch.export.decomp_utils):
                patch.setattr(module, name, lambda operators=operators: set(operators()), raising=False)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """An IDX file of bytes as MNIST has them: 3 axes are images, 1 axis is labels."""
    header = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1))


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four IDX files like MNIST's: 200 training and 40 test images of a bright square on black, 28x28."""
    folder = tmp_path_factory.mktemp("idx")
    rng = np.random.default_rng(0)
    for part, count in (("train", 200), ("t10k", 40)):
        images = np.zeros((count, 28, 28), np.uint8)
        for image, (top, left) in zip(images, rng.integers(0, 20, (count, 2)), strict=True):
            image[top : top + 8, left : left + 8] = 255
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.zeros(count, np.uint8))
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Twelve different colour images in nested folders and five formats, 20 pixels wide and 10 to 21 high."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    suffixes = ["png", "jpg", "webp", "tiff", "bmp", "PNG"]
    for i in range(12):
        path = folder / f"set{i % 3}" / f"{i}.{suffixes[i % 6]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (10 + i, 20, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


def write_photos(folder: Path) -> Path:
    """Six smooth pictures of different sizes, one broken file and one that is too small."""
    folder.mkdir()
    for i in range(6):
        height, width = 48 + 5 * i, 70 - 3 * i
        y, x = np.mgrid[:height, :width]
        planes = [127 + 100 * np.sin(x / (3 + c) + y / (5 + i)) for c in range(3)]
        Image.fromarray(np.stack(planes, axis=2).astype(np.uint8)).save(folder / f"{i}.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return folder
