"""The commands and printed answers that the documentation shows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARKER = re.compile(r"<!-- (page needs|needs|slow)(?:: ([^>]*?))? -->")
START = re.compile(
    r"(\$ )?([A-Z_]+=\S+ )*(curl|hourglass|make|python3?|\.venv/bin/(python|hourglass)|pip|torchrun|docker|kubectl"
    r"|apt-get|npm|git|unzip|cat|deploy/\S+)( |$)"
)
# What changes the machine, needs another program, or runs for minutes is checked and not run.
NEVER_RUN = re.compile(
    r"(make|docker|kubectl|apt-get|npm|git|pip|\.venv/bin/pip|torchrun|unzip|deploy/|python -m benchmarks"
    r"|.*hourglass watch|.*-m training worker|.*-m service$|.*-m service -|.*-m training\.fields"
    r"|.*-m service\.api\.reference|.*build_site)"
)
INLINE = re.compile(r"`((?:curl [^`]*127\.0\.0\.1:8000[^`]*)|(?:hourglass [a-z]+ [^`]+))`")


@dataclass(frozen=True)
class Step:
    """A command as it is printed, what is printed below it, and what it needs.

    Attributes:
        page: Path of the page, relative to the repository.
        line: Number of the line that it begins at, from 1.
        command: Without a prompt; lines that end in a backslash are joined.
        answer: The lines below it; empty where none are shown.
        needs: What the marker before it asks for; empty for a command that runs anywhere.
        is_python: It is a block of Python.
    """

    page: str
    line: int
    command: str
    answer: str
    needs: str
    is_python: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page of Markdown that a user reads, but the changelog, which tells of the past."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*/*/README.md")]
    return sorted(page for page in [*found, *(ROOT / "clients").glob("*/README.md")] if page.name != "changelog.md")


def steps_of(page: Path) -> list[Step]:
    """Return all commands of a page, in order."""
    name, lines = page.relative_to(ROOT).as_posix(), page.read_text("utf-8").splitlines()
    whole = next((found[2] for line in lines[:8] if (found := MARKER.match(line)) and found[1] == "page needs"), "")
    steps: list[Step] = []
    for first, block, needs in _blocks(lines):
        steps += _steps(name, first, block, needs or whole)
    for number, line in enumerate(lines, 1):
        if not line.startswith("    "):
            steps += [Step(name, number, command, "", whole) for command in INLINE.findall(line)]
    return sorted(steps, key=lambda step: step.line)


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str], str]]:
    """Yield each block of code: the number of its first line, its lines, and what the marker before it asks for."""
    needs, at = "", 0
    while at < len(lines):
        line = lines[at]
        if found := MARKER.match(line):
            needs = f"{'slow' if found[1] == 'slow' else found[2]}"
            at += 1
        elif line.startswith("```"):
            end = next(i for i in range(at + 1, len(lines)) if lines[i].startswith("```"))
            if line[3:].strip() in {"", "sh", "console", "python"}:
                yield at + 2, lines[at + 1 : end], needs
            needs, at = "", end + 1
        elif line.startswith("    ") and (at == 0 or not lines[at - 1].strip() or lines[at - 1].startswith("#")):
            end = next(
                (i for i in range(at, len(lines)) if lines[i].strip() and not lines[i].startswith("    ")), len(lines)
            )
            block = [text[4:] for text in lines[at:end]]
            while not block[-1].strip():
                block.pop()
            yield at + 1, block, needs
            needs, at = "", end
        else:
            needs, at = ("" if line.strip() else needs), at + 1


def _steps(page: str, first: int, block: list[str], needs: str) -> list[Step]:
    if re.match(r"import java", block[0]):
        return []  # tests/clients/test_other_languages.py compiles and runs it
    if re.match(r"(import|from) \w", block[0]):
        return [Step(page, first, "\n".join(block) + "\n", "", needs, is_python=True)]
    steps: list[Step] = []
    at = 0
    while at < len(block):
        start = at
        if not START.match(block[at]):
            if steps:
                last = steps[-1]
                steps[-1] = replace(last, answer=f"{last.answer}{block[at]}\n")
            at += 1
            continue
        text = block[at].removeprefix("$ ")
        while text.endswith("\\"):
            at += 1
            text = f"{text[:-1].rstrip()} {block[at].strip()}"
        steps.append(Step(page, first + start, text, "", needs or implied(text)))
        at += 1
    return steps


def implied(command: str) -> str:
    """Return what a command needs without a marker that says so."""
    return "another program, or minutes" if NEVER_RUN.match(re.sub(r"^([A-Z_]+=\S+ )+", "", command)) else ""


def agrees(printed: str, found: str) -> bool:
    """Tell whether an answer is what is printed, up to numbers, spaces, and what `...` leaves out."""
    tokens = re.findall(r"\.\.\.|-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?|\S", printed)
    patterns = [
        ".*?"
        if token == "..."
        else r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"
        if re.match(r"-?\d", token)
        else re.escape(token)
        for token in tokens
    ]
    return re.fullmatch(r"\s*" + r"\s*".join(patterns) + r"\s*", found, re.DOTALL) is not None
