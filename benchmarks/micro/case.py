"""A micro benchmark: alternatives measured in turns, and a table of CPU time."""

import argparse
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tqdm import tqdm

from benchmarks.page import table

ROUNDS = 7
TURN_S = 0.02  # a turn repeats what takes less than this
UNITS = {"us": 1e6, "ms": 1e3}
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Case:
    """A table whose rows are inputs and whose columns are alternatives.

    Attributes:
        title: Title of the column of row names.
        unit: Unit of the figures, a key of UNITS.
        runs: (row, column) -> function to measure.
        counts: Row or column -> images per run, if not one.
        remarks: Title of a further column -> its text, from a row's name and the seconds of its columns.
    """

    title: str
    unit: str
    runs: Mapping[tuple[str, str], Callable[[], object]]
    counts: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, Callable[[str, Mapping[str, float]], str]] = field(default_factory=dict)


def take_turns(
    functions: Mapping[Key, Callable[[], object]], *, rounds: int = ROUNDS, title: str = ""
) -> dict[Key, float]:
    """Measure CPU seconds per call: the minimum over `rounds`, each of which calls every function.

    So other load on the machine slows all of them alike. The first call of each is not counted.
    """
    repeats: dict[Key, int] = {}
    for key, function in functions.items():
        started = time.process_time()
        function()
        repeats[key] = max(1, int(TURN_S / max(time.process_time() - started, 1e-6)))
    best = dict.fromkeys(functions, float("inf"))
    with tqdm(total=rounds * len(functions), desc=title, unit="turn", leave=False) as bar:
        for _ in range(rounds):
            for key, function in functions.items():
                started = time.process_time()
                for _ in range(repeats[key]):
                    function()
                best[key] = min(best[key], (time.process_time() - started) / repeats[key])
                bar.update()
    return best


def show(case: Case) -> str:
    """Measure a case and return its table."""
    seconds = take_turns(case.runs, title=case.title)
    rows = list(dict.fromkeys(row for row, _ in case.runs))
    columns = list(dict.fromkeys(column for _, column in case.runs))
    lines = []
    for row in rows:
        of_row = {
            column: seconds[row, column] / case.counts.get(row, 1) / case.counts.get(column, 1)
            for column in columns
            if (row, column) in seconds
        }
        figures = [f"{of_row[c] * UNITS[case.unit]:.1f}" if c in of_row else "-" for c in columns]
        lines.append([row, *figures, *(remark(row, of_row) for remark in case.remarks.values())])
    return table([f"{case.title}, {case.unit}", *columns, *case.remarks], lines)


def parser_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return the parser of a case's options."""
    return argparse.ArgumentParser(
        f"python -m benchmarks.micro {name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
