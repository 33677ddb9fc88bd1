"""Mistakes on the command line: one line says what is wrong and what would work, before anything is trained."""

import os
from pathlib import Path

import pytest
import torch

from training.__main__ import main
from training.devices import find_device


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "digitz"], "no recipe 'digitz'; there are aliens, anomaly"),
        (["fit", "digits", "--data", "/no/such"], "--data /no/such: no such folder"),
        (["fit", "digits", "training.epochs=0"], "training.epochs: Input should be greater than 0"),
        (["fit", "digits", "training.epoch=3"], "training.epoch: Extra inputs are not permitted"),
        (["fit", "digits", "data.validation_share=0"], "data.validation_share: Input should be greater than 0"),
        (["fit", "digits", "data.calibration_share=0"], "data.calibration_share: Input should be greater than 0"),
        (["fit", "digits", "name=My Digits"], "name: String should match pattern"),
        (["fit", "digits", "epochs"], "'epochs' is not an override; write section.field=value"),
        (["fit", "digits", "name.first=x"], "'name' is a value, not a section"),
        (["fit", "digits", "architecture.name=gan"], "no architecture 'gan'; there are conv"),
        (["fit", "digits", "architecture.options.depth=3"], "unexpected keyword argument 'depth'"),
        (["fit", "digits-unet", "tasks=['denoise', 'encode']"], "UNet has no latent, so it cannot encode"),
        (["fit", "digits", "corruption.name=rain"], "no corruption 'rain'; there are flip"),
        (["fit", "digits", "corruption.options={strength=1}"], "unexpected keyword argument 'strength'"),
        (["fit", "images"], "which images? Give --data FOLDER"),
        (["evaluate", "/no/such/run"], "/no/such/run is no run"),
        (["fit", "digits", "--device", "cuda"], "sees no CUDA device"),
        (["fit", "/no/such.toml"], "cannot read the recipe /no/such.toml"),
    ],
)
def test_a_mistake_is_explained_in_one_line_and_leaves_no_run(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # also on a machine that has one
    runs = ["--runs", str(tmp_path)] if arguments[0] == "fit" else []

    status = main([*arguments, *runs])

    assert status == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "digits", "--name", "My Photos"], "'My Photos' is not a valid model name: use up to 63 of a-z"),
        (["fit", "digits", "--name", "../escape"], "'../escape' is not a valid model name"),
        (["fit", "digits", "--threads", "-1"], "'-1' is not a whole number of 1 or more"),
        (["fit", "digits", "--threads", "many"], "'many' is not a whole number of 1 or more"),
        (["fit", "digits", "--speed", "9"], "unrecognized arguments: --speed"),
        (["evaluate", "runs/digits", "training.epochs=3"], "unrecognized arguments: training.epochs=3"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)

    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_every_process_on_a_machine_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = []

    for process in ("0", "1"):
        monkeypatch.setitem(os.environ, "LOCAL_RANK", process)
        devices.append(find_device("auto"))

    assert devices == [torch.device("cuda", 0), torch.device("cuda", 1)]
