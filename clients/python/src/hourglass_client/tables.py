"""Verdicts as rows of a table: for CSV files and pandas."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hourglass_client.answers import Verdict

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "file", "score", "threshold", "is_anomalous", "p_value", "regions", "x", "y", "width", "height", "model", "verdict",
    "unlike_training",
)  # fmt: skip


def row_of(file: Path | str, verdict: Verdict) -> dict[str, Any]:  # Any: numbers and strings
    """Return one verdict by column. x, y, width and height are the box of its largest region, absent if it has none."""
    row = {
        "file": str(file),
        "score": verdict.score,
        "threshold": verdict.threshold,
        "is_anomalous": verdict.is_anomalous,
        "p_value": verdict.p_value,
        "regions": len(verdict.regions),
        "model": verdict.model,
        "verdict": verdict.verdict,
        "unlike_training": "; ".join(verdict.unlike_training),
    }
    if verdict.regions:
        largest = verdict.regions[0]
        row |= {"x": largest.x, "y": largest.y, "width": largest.width, "height": largest.height}
    return row


def verdict_frame(answers: Iterable[tuple[Path, Verdict | Exception]]) -> "pd.DataFrame":
    """Return a pandas DataFrame of the verdicts that `each` yields.

    It has a row for every file; the column `problem` has the error of a file without a verdict.

    Raises:
        ImportError: pandas is not installed; `pip install 'hourglass-client[pandas]'`.
    """
    try:
        import pandas as pd  # noqa: PLC0415  an extra, and slow to import
    except ImportError as error:
        raise ImportError("verdict_frame needs pandas: `pip install 'hourglass-client[pandas]'`") from error
    rows = [
        row_of(file, answer) if isinstance(answer, Verdict) else {"file": str(file), "problem": str(answer)}
        for file, answer in answers
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, "problem"])
