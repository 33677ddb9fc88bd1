"""Charts as PNG, drawn with matplotlib: the same bytes every time on one machine."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's palette (2008), told apart by colour-blind readers; black last, as it is the colour of the axes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00", "#000000")
# Ten classes need more colours than that: "Tableau 10", as in d3-scale-chromatic.
CLASS_COLOURS = (
    "#4e79a7", "#f28e2c", "#e15759", "#76b7b2", "#59a14f", "#edc949", "#af7aa1", "#ff9da7", "#9c755f", "#bab0ab",
)  # fmt: skip
MARKERS = "os^Dv<>P"
DPI = 96
CURVE = "curve.png"  # beside a card
MOST_TICKS = 9  # of a logarithmic axis that names each x; with more, or with fractions, it has powers of two

Points = Sequence[tuple[float | int, float | int]]


def lines(
    series: Mapping[str, Points], *, x_label: str, y_label: str, log_x: bool = False, log_y: bool = False
) -> bytes:
    """Draw one line per entry over a common axis.

    Args:
        series: Name to points (x, y) in the order of x. A single point is drawn as a marker; points at or below zero
            are left out of a logarithmic axis.
        x_label: Label of x, with its unit.
        y_label: Label of y, with its unit.
        log_x: Use a logarithmic axis for x.
        log_y: Use a logarithmic axis for y.
    """
    with _chart(x_label, y_label) as (axes, file):
        for i, (name, points) in enumerate(series.items()):
            marker = MARKERS[i % len(MARKERS)] if len(points) <= 40 else None  # more would be a thick line
            x, y = zip(*((x, y) for x, y in points if not ((log_x and x <= 0) or (log_y and y <= 0))), strict=True)
            axes.plot(x, y, label=name, color=COLOURS[i % len(COLOURS)], marker=marker, markersize=4, linewidth=1.8)
        if log_x:
            axes.set_xscale("log", base=2)
            at = sorted({x for points in series.values() for x, _ in points if x > 0})
            if len(at) <= MOST_TICKS and all(float(x).is_integer() for x in at):
                axes.set_xticks(at)
            axes.xaxis.set_major_formatter("{x:g}")
        if log_y:
            axes.set_yscale("log")
        if len(series) > 1:
            axes.legend(frameon=False)
    return file.getvalue()


def scatter(points: NDArray[np.floating], labels: Sequence[str], *, x_label: str = "", y_label: str = "") -> bytes:
    """Draw points of a plane, coloured by class.

    Args:
        points: (N, 2).
        labels: Class of each point, N.
        x_label: Label of the first column.
        y_label: Label of the second column.
    """
    with _chart(x_label, y_label, size=(6.0, 5.6)) as (axes, file):
        of = np.array(labels)
        for i, label in enumerate(sorted(set(labels))):
            colour = CLASS_COLOURS[i % len(CLASS_COLOURS)]
            x, y = points[of == label].T
            axes.scatter(x, y, s=6, color=colour, label=label, linewidths=0)
        axes.legend(frameon=False, markerscale=3, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return file.getvalue()


def histogram(values_by_name: Mapping[str, Sequence[float]], *, x_label: str, bins: int = 40) -> bytes:
    """Draw a histogram of each entry, normalised to its number of values, over common bins.

    Args:
        values_by_name: Name to at least one value.
        x_label: Label of the values, with their unit.
        bins: Number of bins.
    """
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(v, float) for v in values_by_name.values()]), bins)
    with _chart(x_label, "share") as (axes, file):
        for i, (name, values) in enumerate(values_by_name.items()):
            weights = np.full(len(values), 1 / len(values))
            axes.hist(values, list(edges), weights=weights, alpha=0.55, label=name, color=COLOURS[i % len(COLOURS)])
        axes.legend(frameon=False)
    return file.getvalue()


@contextmanager
def _chart(x_label: str, y_label: str, *, size: tuple[float, float] = (6.4, 3.8)) -> Iterator[tuple[Axes, BytesIO]]:
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes, file = figure.add_subplot(), BytesIO()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    yield axes, file
    figure.savefig(file, format="png", metadata={"Software": None})
