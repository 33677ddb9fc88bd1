"""`hourglass anomaly`: the verdicts on files and folders, as sentences or a table."""

import contextlib
import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from hourglass_client.answers import Verdict
from hourglass_client.errors import ClientError
from hourglass_client.folders import some_images, targets
from hourglass_client.sync import Hourglass
from hourglass_client.tables import COLUMNS, row_of

EXIT_DONE, EXIT_SOME_FAILED, EXIT_ANOMALOUS = 0, 1, 3

Failure = ClientError | OSError
Say = Callable[[Path, Verdict | Failure], None]


def judge(
    hourglass: Hourglass,
    paths: Sequence[str],
    query: Mapping[str, Any],  # Any: arguments of `Hourglass.anomaly`
    *,
    at_once: int,
    table: str | None,
    heatmaps: Path | None,
) -> int:
    """Says what every image looks like to the model; the exit code.

    Args:
        hourglass: The service.
        paths: Files and folders.
        query: model, version and max_fpr.
        at_once: Requests at a time.
        table: The file of the table, "-" for standard output, None for sentences.
        heatmaps: Where a picture of every anomalous image goes.

    Raises:
        ValueError: A file for the table that does not end in .csv; heat maps that would overwrite each other; no image.
    """
    files = some_images(paths)
    target_by_file = targets([Path(path) for path in paths], heatmaps, ".png") if heatmaps else {}

    def ask(file: Path) -> Verdict:
        verdict = hourglass.anomaly(file, **query)
        if verdict.is_anomalous and file in target_by_file:
            target_by_file[file].parent.mkdir(parents=True, exist_ok=True)
            hourglass.heatmap(file, **query).save(target_by_file[file])
        return verdict

    judged = anomalous = failed = 0
    with _writer(table) as say:
        for file, verdict in hourglass.each(ask, files, at_once=at_once):
            say(file, verdict)
            if isinstance(verdict, Verdict):
                judged += 1
                anomalous += verdict.is_anomalous
                if judged == 1:
                    _warn(verdict)
            else:
                failed += complain(file, verdict)
    if judged + failed > 1:
        rest = f", {failed} could not be judged" if failed else ""
        print(f"{judged + failed} images, {anomalous} anomalous{rest}", file=sys.stderr)
    return EXIT_SOME_FAILED if failed else EXIT_ANOMALOUS if anomalous else EXIT_DONE


def complain(file: Path, error: Exception) -> int:
    """Says what is wrong with a file; 1, to be counted."""
    print(f"{file}: {error}", file=sys.stderr)
    return 1


def _warn(verdict: Verdict) -> None:
    if verdict.max_fpr < verdict.smallest_fpr:
        print(
            f"{verdict.model} was calibrated with {verdict.calibration_images} images, too few for its rate of "
            f"{verdict.max_fpr:g}: up to {verdict.smallest_fpr:.2g} of normal images may be flagged",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _writer(table: str | None) -> Iterator[Say]:
    """What says one verdict. A file of verdicts appears when it is whole."""
    if table is None:
        yield _say_sentence
    elif table == "-":
        yield _say_rows(sys.stdout)
    elif not table.lower().endswith(".csv"):  # "--csv part.png" must not cost the picture
        raise ValueError(
            f"--csv {table}: the table goes into a file that ends in .csv; put --csv last for standard output"
        )
    else:
        unfinished = Path(f"{table}.part")
        with unfinished.open("w", newline="") as file:
            yield _say_rows(file)
        unfinished.replace(table)


def _say_sentence(file: Path, verdict: Verdict | Failure) -> None:
    if isinstance(verdict, Verdict):
        word = "ANOMALOUS" if verdict.is_anomalous else "normal"
        most = verdict.regions[0] if verdict.regions else None
        where = f", {most.width}x{most.height} at ({most.x}, {most.y})" if most else ""
        print(f"{file}: {word}, score {verdict.score:.4g}, p = {verdict.p_value:.2g}{where}")


def _say_rows(file: TextIO) -> Say:
    rows = csv.DictWriter(file, COLUMNS, restval="")
    rows.writeheader()

    def say(file: Path, verdict: Verdict | Failure) -> None:
        if isinstance(verdict, Verdict):
            rows.writerow(row_of(file, verdict) | {"is_anomalous": int(verdict.is_anomalous)})
        else:
            rows.writerow({"file": str(file)})

    return say
