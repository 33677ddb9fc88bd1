"""Build the help pages out of `docs/` and the cards of the shipped models: `python docs/build_site.py FOLDER`.

Zensical makes the pages. Before that, links are rewritten and notebooks become Markdown, so that the same files read
well in an editor, in a forge and at `/help`. The result loads nothing from other sites and works from any folder.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PAGES = {".md", ".png", ".gif", ".svg", ".jpg", ".css", ".yml", ".ipynb"}
_LINK = re.compile(r"(!?)\[((?:[^\]\n]|\n(?!\n))*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")  # a label may be wrapped


def build_site(output: Path) -> None:
    """Build the help pages into `output`, replacing what is there.

    Raises:
        subprocess.CalledProcessError: Zensical found a fault, such as a link to a page that is missing. It prints
            which.
    """
    with tempfile.TemporaryDirectory() as work:
        stage(Path(work))
        environment = {**os.environ, "NO_COLOR": "1"}
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        subprocess.run(command, cwd=work, env=environment, check=True)  # noqa: S603  our own command
        for unwanted in ("sitemap.xml", "sitemap.xml.gz", "objects.inv"):  # they need an address that is known
            (Path(work) / "site" / unwanted).unlink(missing_ok=True)
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(Path(work) / "site", output)


def stage(work: Path) -> None:
    """Write what Zensical reads into `work`: its settings, and the pages below `docs/`."""
    sources = {path.relative_to(ROOT).as_posix(): path for path in _sources()}
    cards = [place_of(name) for name in sources if name.startswith("models/") and name.endswith(".md")]
    settings = (ROOT / "zensical.toml").read_text("utf-8")
    (work / "zensical.toml").write_text(settings.replace('"Model cards" = []', f'"Model cards" = {cards}'), "utf-8")
    for name, path in sources.items():
        target = work / "docs" / place_of(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(relink(path.read_text("utf-8"), name, sources.keys()), "utf-8")
        elif path.suffix == ".ipynb":
            target.write_text(relink(notebook_page(json.loads(path.read_text("utf-8"))), name, sources.keys()), "utf-8")
        else:
            shutil.copy(path, target)


def _sources() -> Iterator[Path]:
    yield from sorted(path for path in (ROOT / "docs").rglob("*") if path.suffix in PAGES)
    yield from sorted((ROOT / "models").glob("*/*/README.md"))
    yield from sorted((ROOT / "models").glob("*/*/*.png"))
    yield from sorted((ROOT / "clients").glob("*/README.md"))


def place_of(name: str) -> str:
    """Return where a file of the repository lies below the site's pages: `docs/api.md` is `api.md`."""
    name = re.sub(r"\.ipynb$", ".md", name)
    return re.sub(r"(^|/)README\.md$", r"\1index.md", name.removeprefix("docs/"))


def relink(text: str, name: str, pages: Iterator[str] | set[str]) -> str:
    """Point the links of a page to where their targets lie in the site.

    A link to a file that is no page, such as source code, becomes its text.

    Args:
        text: Markdown.
        name: Its path in the repository.
        pages: Paths in the repository of everything that is in the site.
    """
    known = set(pages)

    def replace(match: re.Match[str]) -> str:
        mark, label, target, anchor = match.groups()
        path = os.path.normpath(PurePosixPath(name).parent / target)
        path = f"{path}/README.md" if f"{path}/README.md" in known else path
        if path not in known:
            return label
        here = PurePosixPath(place_of(name)).parent
        return f"{mark}[{label}]({os.path.relpath(place_of(path), here)}{anchor or ''})"

    blocks = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(block if block.startswith("```") else _LINK.sub(replace, block) for block in blocks)


def notebook_page(notebook: dict[str, list[dict[str, object]]]) -> str:
    """Return a notebook as Markdown: its text, its code, and what the code printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])  # type: ignore[arg-type]  # strings, by the format
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):  # type: ignore[attr-defined]
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f'<img alt="output" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">')
            elif said := "".join(output.get("text", data.get("text/plain", ()))).rstrip():
                parts.append(f"```text\n{said}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    build_site(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "service" / "help")
