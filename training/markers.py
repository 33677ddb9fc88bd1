"""Pages whose figures are made by a command: it writes between two markers and leaves the rest alone."""

from collections.abc import Sequence
from pathlib import Path

from training.files import write_atomically


def write_between(page: Path, name: str, lines: list[str]) -> None:
    """Puts paragraphs between the markers `<!-- name: begin -->` and `<!-- name: end -->` of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    with write_atomically(page) as file:
        file.write("\n\n".join([f"{before}{begin}", *lines, f"{end}{after}"]).encode())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every row has as many cells as the head."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
