"""The command line of the benchmarks of models."""

import subprocess
import sys
from pkgutil import resolve_name

import pytest

from benchmarks.models.__main__ import SECTIONS, WHOLE, main
from benchmarks.models.anomaly import SECTIONS as ANOMALY
from benchmarks.models.pictures import SECTIONS as PICTURES
from tests.conftest import ROOT


def test_everything_that_is_offered_is_there() -> None:
    assert all(callable(resolve_name(f"benchmarks.models.{place}")) for place in WHOLE.values())
    assert {name for whole, name in SECTIONS.values() if whole == "anomaly"} == set(ANOMALY)
    assert {name for whole, name in SECTIONS.values() if whole == "restoration"} == set(PICTURES)


def test_help_needs_no_pytorch() -> None:
    code = (
        "import sys\nfrom benchmarks.models.__main__ import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "photo-compression" in said
    assert not {"torch", "numpy", "training"} & set(said.splitlines()[-1].split())


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["digits", "--data", "."])

    assert "invalid choice: 'digits'" in capsys.readouterr().err
