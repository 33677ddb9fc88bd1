"""The command lines of the benchmarks: `python -m benchmarks.PACKAGE [--write] NAME [options]`."""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.machine import summary
from benchmarks.page import write_between

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
INTERRUPTED = 130  # the shell's status for Ctrl-C


class BenchmarkError(Exception):
    """A requirement is missing or an answer is wrong; the message says which."""


def run_command(
    package: str, about: str, summary_by_name: Mapping[str, str], words: Sequence[str] | None, *, page: Path = PAGE
) -> int:
    """Run the command that the first word names, print what it measured, and return its exit status.

    Args:
        package: `http`, for example. The module NAME in it has `measure(words)`, which returns Markdown.
        about: Description of the package.
        summary_by_name: One line for each command.
        words: Arguments after `python -m benchmarks.PACKAGE`; those of this process if None.
        page: Page for `--write`.
    """
    words = sys.argv[1:] if words is None else list(words)
    width = max(map(len, summary_by_name))
    names = "\n".join(f"  {name:{width}}  {summary}" for name, summary in summary_by_name.items())
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{package}",
        usage=f"python -m benchmarks.{package} [--write] NAME [options]",
        description=about,
        epilog=f"names (each has a --help of its own):\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help=f"also between the markers NAME of {page.name}")
    parser.add_argument("name", choices=summary_by_name, metavar="NAME", help="one of those below")
    end = 1 + next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    chosen = parser.parse_args(words[:end])

    def measured() -> str:
        module = importlib.import_module(f"benchmarks.{package}.{chosen.name.replace('-', '_')}")
        text: str = module.measure(words[end:])
        return text

    marker = chosen.name if chosen.write else None
    return report(measured, marker=marker, command=" ".join([package, *words]), page=page)


def selecting(command: str, about: str | None, *, what: str) -> argparse.ArgumentParser:
    """Return the parser of a command whose arguments, `parts`, select what it measures; see `selected`.

    Args:
        command: Command line after `python -m benchmarks.`.
        about: Description of the command.
        what: What is selected, in the plural.
    """
    parser = argparse.ArgumentParser(
        f"python -m benchmarks.{command}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"parts of the names of {what}")
    return parser


def selected(names: Iterable[str], parts: Sequence[str]) -> list[str]:
    """Return the names that contain one of the parts; all names if there are no parts."""
    return [name for name in names if not parts or any(part in name for part in parts)]


def report(measure: Callable[[], str], *, marker: str | None, command: str, page: Path | None = None) -> int:
    """Print the Markdown of a measurement and return the exit status.

    Args:
        measure: Measures and returns Markdown.
        marker: Marker of the page at which to write it, with a line about the command; None to print only.
        command: Command line after `python -m benchmarks.`, for that line.
        page: Page to write; docs/performance.md if None.

    Returns:
        0, 1 for an error whose message was printed, 130 after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    try:
        text = measure()
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    print(text)
    if marker:
        write_between(page or PAGE, marker, [text, f"`python -m benchmarks.{command}`: {summary()}."])
    return 0
