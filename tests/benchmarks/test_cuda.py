"""`python -m benchmarks.cuda`, on the CPU: the same path as on a card."""

from pathlib import Path

import pytest

from benchmarks.cuda import main
from service.models.session import Session
from tests.service.toymodels import publish_toy


def test_every_graph_has_a_row_without_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_toy(tmp_path)

    assert main(["--device", "cpu", "--models-dir", str(tmp_path), "--seconds", "0.001"]) == 0

    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| toy/1 ")]
    assert {row[0] for row in rows} >= {"| toy/1 denoise", "| toy/1 encode", "| toy/1 decode", "| toy/1 anomaly"}
    assert {row[7] for row in rows} == {"0.0e+00"}


def test_batches_end_where_the_memory_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_toy(tmp_path)
    run = Session.run

    def small(self: Session, *inputs: object) -> object:
        if len(inputs[0]) > 4:  # type: ignore[arg-type]
            raise MemoryError
        return run(self, *inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "run", small)

    assert main(["--device", "cpu", "--models-dir", str(tmp_path), "--seconds", "60"]) == 0
    assert "no memory for 8" in capsys.readouterr().out


def test_a_missing_card_and_a_missing_model_are_said_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_toy(tmp_path)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])

    assert main([]) == 1
    assert "pip install 'onnxruntime-gpu" in capsys.readouterr().err

    assert main(["--device", "cpu", "--models-dir", str(tmp_path), "--models", "none"]) == 1
    assert "has no model none; it has toy" in capsys.readouterr().err
