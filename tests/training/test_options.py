"""Options of `fit` that a recipe has no use for are refused by name, not ignored."""

from pathlib import Path

import pytest

from training.__main__ import main

FOLDERS = ("data", "noisy", "clean", "defects", "masks")


@pytest.mark.parametrize(
    ("recipe", "useless"),
    [
        ("digits", ["--noisy", "--clean", "--scale", "--defects", "--masks"]),
        ("denoise", ["--noisy", "--clean", "--scale", "--size", "--defects", "--masks", "--beside"]),
        ("enhance", ["--noisy", "--clean", "--size", "--beside"]),
        ("blind", ["--clean", "--scale", "--beside"]),
        ("restore", ["--data", "--defects", "--beside"]),
        ("digits-compressed", ["--noisy", "--defects", "--masks", "--beside"]),
        ("photo-compressed", ["--clean", "--defects", "--masks", "--beside"]),
        ("anomaly", ["--noisy", "--clean", "--beside"]),
    ],
)
def test_an_option_without_a_use_is_refused_by_name(
    recipe: str, useless: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in useless:
        value = "2" if option in {"--scale", "--size"} else str(tmp_path)

        assert main(["fit", recipe, option, value, "--runs", str(tmp_path / "runs"), "--quiet"]) == 1

        error = capsys.readouterr().err
        assert f"has no use for {option};" in error or f"{option.strip('-')}: Extra inputs" in error, error
    assert not (tmp_path / "runs").exists()


def test_calibrate_needs_good_images_beside_defects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", "mine", "--defects", str(tmp_path)])

    assert "give --data, too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["evaluate", "runs/mine", "--device", "cuda"], "--device"),
        (["export", "runs/mine", "--models", "elsewhere"], "--models"),
        (["publish", "runs/mine", "--threads", "2"], "--threads"),
        (["calibrate", "mine", "--data", "good", "--device", "cuda"], "--device"),
        (["worker", "--service", "http://127.0.0.1:9", "--device", "cuda"], "--device"),
        (["fit", "anomaly", "--data", "good", "--key", "secret"], "--key is for --feedback"),
    ],
)
def test_a_command_refuses_what_it_has_no_use_for(
    arguments: list[str], refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)

    assert refused in capsys.readouterr().err.splitlines()[-1]
