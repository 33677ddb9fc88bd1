"""Regions of an anomaly map: our code and scipy.ndimage, CPU microseconds per map.

    python -m benchmarks.micro regions

Typical maps (a spot and noise at the size of a digit, smooth blobs at the size of a photograph's map) and adversarial
ones. Both return the boxes, peaks and areas of the 16 largest 8-connected components.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from PIL import Image

from benchmarks.commands import BenchmarkError
from benchmarks.micro.case import Case, parser_of, show
from service.tasks.anomaly.regions import MAX_REGIONS, Component, find_regions

LEVEL = 0.7
EIGHT = np.ones((3, 3), np.bool_)

Map = NDArray[np.float32]


def measure(words: Sequence[str]) -> str:
    """Measure and return a table with a row per map."""
    parser_of("regions", __doc__).parse_args(words)
    ways: dict[str, Callable[[Map], list[Component]]] = {"ours": partial(find_regions, level=LEVEL), "scipy": by_scipy}
    made = maps()
    for name, values in made.items():
        if ways["ours"](values) != ways["scipy"](values):
            raise BenchmarkError(f"{name}: the two disagree")
    runs = {(name, way): partial(find, values) for name, values in made.items() for way, find in ways.items()}
    return show(Case("map", "us", runs))


def maps() -> dict[str, Map]:
    """Return maps by name, values in [0, 1]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    coarse = Image.fromarray(rng.random((12, 12), np.float32))
    return {
        "28x28, a spot": (np.hypot(y - 14, x - 10) < 4).astype(np.float32)[:28, :28],
        "28x28, noise": rng.random((28, 28), np.float32),
        "256x256, blobs": np.asarray(coarse.resize((256, 256), Image.Resampling.BILINEAR)),
        "256x256, noise": rng.random((256, 256), np.float32),
        "256x256, chessboard": ((x + y) % 2).astype(np.float32),
        "1024x1024, noise": rng.random((1024, 1024), np.float32),
    }


def by_scipy(values: Map) -> list[Component]:
    """Find the regions of `find_regions` with scipy.ndimage."""
    labels, count = scipy.ndimage.label(values >= LEVEL, EIGHT)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = scipy.ndimage.find_objects(labels)
    regions = []
    for i in np.argsort(-areas, kind="stable")[:MAX_REGIONS]:
        rows, columns = box = boxes[i]
        peak = float(values[box][labels[box] == i + 1].max())
        regions.append(Component(rows.start, columns.start, rows.stop, columns.stop, peak, int(areas[i])))
    return regions
