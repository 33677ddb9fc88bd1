"""What can be told of a command without running it: that its program, options, recipe and versions exist."""

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

from tests.docs.commands import ROOT, Step

SHIPPED = {path.name for path in (ROOT / "models").iterdir() if path.is_dir() and not path.name.startswith(".")}
_VERSION = re.compile(
    rf"(?:(?<=models/)|(?<![\w/-]))({'|'.join(sorted(SHIPPED, key=len, reverse=True))})/(\d+)(?![\w.])"
)
_OF_THE_PAST = re.compile(
    r"^<!-- needs:[^>]*history -->\n(\n|<!-- .* -->\n)*( {4,}.*\n|\n)+|^.*(git log|history).*$|^> .*$", re.MULTILINE
)


def check(step: Step) -> None:
    """Raise an error that says what is wrong with a command.

    Raises:
        AssertionError, ImportError, ValueError: It names something that does not exist.
    """
    words = shlex.split(step.command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    program, rest = words[0], words[1:]
    if Path(program).name in {"python", "python3", "torchrun"} and "-m" in rest:
        at = rest.index("-m")
        _check_module(rest[at + 1], [word for word in rest[at + 2 :] if word not in {">", "2>"}])
    elif Path(program).name == "hourglass":
        with _said():
            importlib.import_module("hourglass_client.cli.main")._parser().parse_args(_without_redirection(rest))
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        assert [word for word in rest if f"\n{word}:" not in makefile] == [], step.command
    elif program.startswith("deploy/"):
        assert (ROOT / program).is_file(), program
    elif program == "kubectl" and "-k" in rest:
        assert (ROOT / rest[rest.index("-k") + 1]).is_dir(), step.command


def _check_module(module: str, words: list[str]) -> None:
    with _said():
        if module == "training":
            options = importlib.import_module("training.arguments").parse(_without_redirection(words))
            if options.stage == "fit":
                importlib.import_module("training.recipe").load_recipe(options.recipe, tuple(options.overrides))
        elif module == "service" and words and words[0] in {"index", "rebuild"}:
            importlib.import_module("service.collections.cli")._parser().parse_args(words)
        elif module == "service" and words[:1] == ["prune"]:
            importlib.import_module("service.collections.prune")._parser().parse_args(words[1:])
        elif module == "service":
            importlib.import_module("service.settings")._parser().parse_args(words)
        elif module == "benchmarks.models":
            importlib.import_module("benchmarks.models.__main__")._parser().parse_args(words)
        elif hasattr(importlib.import_module(module), "__path__"):
            main = vars(importlib.import_module(f"{module}.__main__"))
            cases = main.get("CASES") or main.get("COMMANDS")
            names = [word for word in words if not word.startswith("-")]
            assert cases is None or names[0] in cases, f"{module} has no {names[:1]}"


def _without_redirection(words: list[str]) -> list[str]:
    ends = [i for i, word in enumerate(words) if word in {">", "|", "||", "2>", "&&", ";"}]
    return words[: min(ends, default=len(words))]


class _said(contextlib.AbstractContextManager[None]):  # noqa: N801  reads as a statement
    """Turn the end of the process that a parser asks for into an error with what it said."""

    def __enter__(self) -> None:
        self._error = io.StringIO()
        self._redirected = contextlib.redirect_stderr(self._error)
        self._redirected.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._redirected.__exit__(None, None, None)
        if isinstance(error, SystemExit) and error.code not in {None, 0}:
            raise ValueError(f"{self._error.getvalue().strip().splitlines()[-1:]} {error.code}") from error


def versions_not_shipped(text: str) -> list[str]:
    """Return the model versions that a page names, such as `digits/3`, and that are not in `models/`.

    Lines that tell of the past may name versions of the past, and examples of errors any.
    """
    named = [
        (name, version)
        for line in _OF_THE_PAST.sub("", text).splitlines()
        for name, version in [
            *_VERSION.findall(line),
            *re.findall(r'"model": ?"([\w-]+)", ?"version": ?(\d+)', line),
            *re.findall(r"model=([\w-]+)&version=(\d+)", line),
        ]
    ]
    return [f"{n}/{v}" for n, v in named if n in SHIPPED and not (ROOT / "models" / n / v / "manifest.json").is_file()]
