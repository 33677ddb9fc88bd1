"""Shared code of the commands: exit codes, options, messages, and the loop over many files."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from hourglass_client.answers import NPY_TYPE
from hourglass_client.errors import Unreachable
from hourglass_client.sync import Hourglass

T = TypeVar("T")
AddCommand = Callable[..., argparse.ArgumentParser]  # a name, what runs it, and a sentence

EXIT_DONE, EXIT_SOME_FAILED, EXIT_NOTHING, EXIT_ANOMALOUS, EXIT_STOPPED = 0, 1, 2, 3, 130

TYPE_BY_ENDING = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".npy": NPY_TYPE,
}
ARCHIVES = {".zip": "application/zip"}
ANIMATIONS = {".gif": "image/gif"}


def add_many(command: argparse.ArgumentParser, text: str) -> None:
    """Add the arguments for many files and for concurrent requests."""
    command.add_argument("paths", nargs="+", metavar="PATH", help=text)
    add_at_once(command)


def add_at_once(command: argparse.ArgumentParser) -> None:
    """Add the option for concurrent requests."""
    text = "concurrent requests, about 4 per core of the service (default 8)"
    command.add_argument("--at-once", type=int, default=8, metavar="N", help=text)


def add_rate(command: argparse.ArgumentParser) -> None:
    """Add the option for the false-positive rate."""
    text = "false-positive rate: share of normal images that may be flagged (default: the model's)"
    command.add_argument("--max-fpr", type=float, metavar="P", help=text)


def add_ignore(command: argparse.ArgumentParser) -> None:
    """Add the option for pixels to ignore."""
    text = "mask for all images, white where pixels take no part in the verdict"
    command.add_argument("--ignore", type=Path, metavar="MASK", help=text)


def for_each(
    hourglass: Hourglass,
    files: Sequence[Path],
    ask: Callable[[Path], T],
    done: Callable[[Path, T], None],
    *,
    failed: Callable[[Path], None] = lambda _: None,
    at_once: int,
    what: str,
) -> int:
    """Send every file and pass on the answers, in order. Print problems to standard error and return their number.

    Raises:
        Unreachable: The service does not answer, so the rest is not sent.
    """
    problems = 0
    for file, answer in hourglass.each(ask, files, at_once=at_once, what=what):
        if isinstance(answer, Unreachable):
            raise answer
        if isinstance(answer, Exception):
            problems += 1
            say(f"{file}: {answer}")
            failed(file)
        else:
            done(file, answer)
    return problems


def connection_of(options: argparse.Namespace) -> dict[str, Any]:  # Any: arguments of `Hourglass`
    """Return the address, key and timeout for `Hourglass`, from the command line and the environment."""
    url = options.url or os.environ.get("HGCLIENT_URL") or "http://127.0.0.1:8000"
    return {"url": url, "key": os.environ.get("HGCLIENT_KEY"), "timeout_s": options.timeout_s}


def say(sentence: str) -> None:
    """Print a note to standard error."""
    print(sentence, file=sys.stderr)


def type_of(output: Path, *, more: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the media type of a file extension.

    Raises:
        ValueError: The extension is unknown.
    """
    ending, type_by_ending = output.suffix.lower(), {**TYPE_BY_ENDING, **more}
    if ending not in type_by_ending:
        raise ValueError(f"{output} has an extension other than {', '.join(type_by_ending)}")
    return type_by_ending[ending]
