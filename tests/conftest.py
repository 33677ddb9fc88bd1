"""What tests of both halves share: the environment of what they start, and the real digits in the repository."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.cores import usable_cores

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"

# The tests start hundreds of processes. Each has one thread, as there are as many tests at a time as cores, and keeps
# the bytecode of what it imports: compiling PyTorch again takes 10 s, and some machines ask for that.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: for a quarter of their time tests wait for servers and browsers."""
    return int(usable_cores()) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, they would keep one core at work while the others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes stay out of the names of tests: gzip writes the second into them, and workers must collect the same."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def mnist_digits() -> NDArray[np.float32]:
    """500 random test images of MNIST, (500, 1, 28, 28), pixels in [0, 1]."""
    with Image.open(DATA / "mnist_test_500.png") as sheet:
        tiles = np.asarray(sheet).reshape(20, 28, 25, 28).swapaxes(1, 2)  # rows of 25 digits
    return (tiles.reshape(500, 1, 28, 28) / np.float32(255)).astype(np.float32)
