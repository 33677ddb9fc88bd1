"""Pages with figures written by commands between two markers."""

from collections.abc import Sequence
from pathlib import Path


def write_between(page: Path, name: str, paragraphs: Sequence[str]) -> None:
    """Write paragraphs between the markers `<!-- name: begin -->` and `<!-- name: end -->` of a page.

    Raises:
        ValueError: The page does not have both markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, has_begin, rest = page.read_text("utf-8").partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise ValueError(f"{page} has no markers {begin} and {end}")
    page.write_text("\n\n".join([f"{before}{begin}", *paragraphs, f"{end}{after}"]), "utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned source: the first column to the left, the others to the right."""
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first, *others = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join([first, *others])} |"

    return "\n".join(line(cells) for cells in (head, rule, *rows))
