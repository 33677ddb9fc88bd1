"""`hourglass anomaly`: the verdicts on files and folders, as sentences or a table."""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from hourglass_client.answers import Verdict
from hourglass_client.cli.journal import Journal, Row
from hourglass_client.cli.run import (
    EXIT_ANOMALOUS,
    EXIT_DONE,
    EXIT_SOME_FAILED,
    AddCommand,
    add_ignore,
    add_many,
    add_rate,
    for_each,
    say,
)
from hourglass_client.folders import some_images, targets, write_whole
from hourglass_client.sync import Hourglass
from hourglass_client.tables import COLUMNS, row_of

Keep = Callable[[Path, Verdict], None]


def add_commands(add: AddCommand) -> None:
    """Add the command `anomaly`."""
    anomaly = add("anomaly", _anomaly, "judge images, and exit with 3 if some are anomalous")
    add_many(anomaly, "images or folders")
    add_rate(anomaly)
    add_ignore(anomaly)
    text = "write a table instead of sentences, to a .csv file or, without a name, to standard output"
    anomaly.add_argument("--csv", nargs="?", const="-", metavar="FILE", help=text)
    text = "write a heat map of every anomalous image to this folder"
    anomaly.add_argument("--heatmaps", type=Path, metavar="FOLDER", help=text)


def _anomaly(hourglass: Hourglass, options: argparse.Namespace) -> int:
    if options.csv not in {None, "-"} and not options.csv.lower().endswith(".csv"):  # it must not cost a picture
        raise ValueError(
            f"--csv {options.csv}: the table goes into a file that ends in .csv; put --csv last for standard output"
        )
    files = some_images(options.paths)
    query = {"model": options.model, "version": options.version, "max_fpr": options.max_fpr}
    heatmaps = targets([Path(path) for path in options.paths], options.heatmaps, ".png") if options.heatmaps else {}

    def ask(file: Path) -> Verdict:
        verdict = hourglass.anomaly(file, ignore=options.ignore, **query)
        if verdict.is_anomalous and file in heatmaps:
            heatmaps[file].parent.mkdir(parents=True, exist_ok=True)
            hourglass.heatmap(file, ignore=options.ignore, **query).save(heatmaps[file])
        return verdict

    def judge(todo: Sequence[Path], keep: Keep, failed: Callable[[Path], None] = lambda _: None) -> int:
        kept = _warning_first(keep)
        return for_each(hourglass, todo, ask, kept, failed=failed, at_once=options.at_once, what="anomaly")

    rows: dict[Path, Row] = {}
    if options.csv is None:

        def tell(file: Path, verdict: Verdict) -> None:
            rows[file] = row_of(file, verdict)
            print(_sentence(file, verdict))

        failed = judge(files, tell)
    elif options.csv == "-":
        table = _table(sys.stdout)

        def write(file: Path, verdict: Verdict) -> None:
            rows[file] = row_of(file, verdict)
            table.writerow(_cells(file, rows[file]))

        failed = judge(files, write, lambda file: table.writerow(_cells(file, None)))
    else:
        asked = {"command": "anomaly", **query, "heatmaps": str(options.heatmaps), "ignore": str(options.ignore)}
        with Journal(Path(f"{options.csv}.part"), asked) as journal:
            todo = [file for file in files if journal.row(file) is None]
            if len(todo) < len(files):
                say(f"{len(files) - len(todo)} of {len(files)} were judged before")
            failed = judge(todo, lambda file, verdict: journal.add(file, row_of(file, verdict)))
            rows = {file: row for file in files if (row := journal.row(file)) is not None}
            text = io.StringIO(newline="")
            _table(text).writerows(_cells(file, rows.get(file)) for file in files)
            write_whole(options.csv, text.getvalue().encode())
            journal.remove()

    anomalous = sum(row["is_anomalous"] for row in rows.values())
    if len(files) > 1:
        rest = f", {failed} could not be judged" if failed else ""
        say(f"{len(files)} images, {anomalous} anomalous{rest}")
        unlike = [row["unlike_training"] for row in rows.values() if row["unlike_training"]]
        if len(unlike) > len(rows) / 2:
            say(
                f"{len(unlike)} of {len(rows)} are unlike the training images ({unlike[0]}), probably from another "
                "source; their scores are unreliable, see docs/anomaly.md"
            )
    return EXIT_SOME_FAILED if failed else EXIT_ANOMALOUS if anomalous else EXIT_DONE


def _warning_first(keep: Keep) -> Keep:
    """Return `keep`, and a warning with the first verdict if its model was calibrated with too few images."""
    is_first = True

    def kept(file: Path, verdict: Verdict) -> None:
        nonlocal is_first
        if is_first and verdict.max_fpr < verdict.smallest_fpr:
            say(
                f"{verdict.model} was calibrated with {verdict.calibration_images} images, too few for its rate of "
                f"{verdict.max_fpr:g}: up to {verdict.smallest_fpr:.2g} of normal images may be flagged"
            )
        is_first = False
        keep(file, verdict)

    return kept


def _sentence(file: Path, verdict: Verdict) -> str:
    word = {"anomalous": "ANOMALOUS", "review": "review", "good": "normal"}[verdict.verdict]
    most = verdict.regions[0] if verdict.regions else None
    where = f", {most.width}x{most.height} at ({most.x}, {most.y})" if most else ""
    unlike = f", unlike the training images: {'; '.join(verdict.unlike_training)}" if verdict.unlike_training else ""
    return f"{file}: {word}, score {verdict.score:.4g}, p = {verdict.p_value:.2g}{where}{unlike}"


def _table(file: TextIO) -> "csv.DictWriter[str]":
    table = csv.DictWriter(file, COLUMNS, restval="")
    table.writeheader()
    return table


def _cells(file: Path, row: Row | None) -> Row:
    """Return the cells of a file; all but its name are empty if there is no verdict."""
    return {"file": str(file)} if row is None else {**row, "is_anomalous": int(row["is_anomalous"])}
