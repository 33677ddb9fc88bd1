"""The command lines of the benchmarks, their tables and the page that they write."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import commands
from benchmarks.commands import BenchmarkError, report
from benchmarks.http.__main__ import COMMANDS as HTTP
from benchmarks.micro.__main__ import CASES as MICRO
from benchmarks.micro.case import Case, show, take_turns
from benchmarks.page import table, write_between
from benchmarks.reliability.__main__ import COMMANDS as RELIABILITY
from benchmarks.service import Service, ServiceError
from tests.conftest import ROOT
from tests.service.slowmodel import flat_png
from tests.service.toymodels import publish_toy

PACKAGES = {"http": HTTP, "micro": MICRO, "reliability": RELIABILITY}


def module_of(package: str, name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{package}.{name.replace('-', '_')}")


@pytest.mark.parametrize(("package", "name"), [(p, name) for p, names in PACKAGES.items() for name in names])
def test_every_command_is_there_and_explains_itself(
    package: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        module_of(package, name).measure(["--help"])

    assert f"python -m benchmarks.{package} {name}" in capsys.readouterr().out


@pytest.mark.parametrize("package", PACKAGES)
def test_help_names_the_commands_and_imports_no_numpy(package: str) -> None:
    code = (
        f"import sys\nfrom benchmarks.{package}.__main__ import main\n"
        "try: main(['--help'])\nfinally: print(*sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert all(f"  {name}  " in said for name in PACKAGES[package])
    assert not {"torch", "numpy", "service", "training"} & set(said.splitlines()[-1].split())


def test_functions_take_turns_and_the_cheaper_one_is_cheaper() -> None:
    called: list[str] = []

    def work(name: str, count: int) -> None:
        called.append(name)
        sum(range(count))

    seconds = take_turns({"small": lambda: work("small", 400_000), "large": lambda: work("large", 4_000_000)}, rounds=3)

    assert seconds["small"] < seconds["large"]
    turns = [name for name, before in zip(called, ["", *called], strict=False) if name != before]
    assert turns == ["small", "large"] * 4  # the first is to see how long each takes


def test_a_case_counts_images_and_leaves_out_what_was_not_measured() -> None:
    runs = {("one", "a"): lambda: sum(range(100_000)), ("many", "b"): lambda: sum(range(100_000))}

    text = show(Case("work", "us", runs, counts={"many": 1000}, remarks={"row": lambda row, _: row.upper()}))

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert rows[0] == ["work, us", "a", "b", "row"]
    assert (rows[2][2], rows[3][1]) == ("-", "-")
    assert float(rows[3][2]) < float(rows[2][1]) / 100
    assert rows[3][3] == "MANY"


def test_a_table_is_aligned_in_its_source() -> None:
    assert table(["", "x"], [["a", "12.5"], ["long", "3"]]) == (
        "|      |    x |\n| ---- | ---: |\n| a    | 12.5 |\n| long |    3 |"
    )


def test_only_what_is_between_the_markers_of_a_page_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n", "utf-8")

    write_between(page, "x", ["new", "and more"])

    assert page.read_text("utf-8") == "before\n<!-- x: begin -->\n\nnew\n\nand more\n\n<!-- x: end -->\nafter\n"


def test_a_page_without_the_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n<!-- x: begin -->\n", "utf-8")

    with pytest.raises(ValueError, match="<!-- x: end -->"):
        write_between(page, "x", ["new"])

    assert page.read_text("utf-8") == "nothing\n<!-- x: begin -->\n"


def test_a_report_says_how_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "performance.md"
    page.write_text("<!-- codecs: begin --><!-- codecs: end -->", "utf-8")
    monkeypatch.setattr(commands, "PAGE", page)

    assert report(lambda: "fast", marker="codecs", command="micro codecs") == 0

    assert capsys.readouterr().out == "fast\n"
    assert "fast\n\n`python -m benchmarks.micro codecs`: 2" in page.read_text("utf-8")


def test_what_is_missing_is_said_and_the_status_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    def measure() -> str:
        raise BenchmarkError("wrk is missing")

    assert report(measure, marker=None, command="http endpoints") == 1
    assert capsys.readouterr().err == "error: wrk is missing\n"


def test_a_service_is_ready_answers_and_is_gone_afterwards(tmp_path: Path) -> None:
    publish_toy(tmp_path)

    with Service(models=tmp_path) as service:
        answer = service.ask("/denoise?model=toy", flat_png(4), "image/png")
        has, pids = service.process.resources, service.process.pids

    assert answer.startswith(b"\x89PNG")
    assert has.memory_mib <= has.peak_mib
    assert has.threads >= 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_service_that_does_not_start_says_why() -> None:
    with pytest.raises(ServiceError, match="--nonsense"), Service("--nonsense"):
        pass
