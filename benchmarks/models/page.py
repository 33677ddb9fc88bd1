"""Pages whose figures are made by a command: it writes between two markers and leaves the rest alone."""

from pathlib import Path

from training.files import write_atomically


def write_between(page: Path, name: str, lines: list[str]) -> None:
    """Put paragraphs between the markers `<!-- name: begin -->` and `<!-- name: end -->` of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    with write_atomically(page) as file:
        file.write("\n\n".join([f"{before}{begin}", *lines, f"{end}{after}"]).encode())
