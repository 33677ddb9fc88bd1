"""Stopped in the middle: by a kill, or by Ctrl-C. The same command goes on, and ends where it would have ended."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.__main__ import main
from training.verify import verify

pytestmark = pytest.mark.slow  # whole trainings

ROOT = Path(__file__).parent.parent.parent
BATCH = 20  # 9 steps per epoch, 540 images in 3 epochs
STOPPED_AT = 14  # of 27 steps: in the middle of an epoch
# Saves at every step instead of every 30 seconds, and then waits to be stopped.
PROGRAM = f"""
import signal, sys, time
from training import trainer
from training.__main__ import main
from training.checkpoint import Checkpoint

save = Checkpoint.save

def save_and_wait(self, path):
    save(self, path)
    if self.step == {STOPPED_AT}:
        print("waiting", flush=True)
        time.sleep(600)

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started the tests in the background
Checkpoint.save = save_and_wait
trainer.CHECKPOINT_INTERVAL_S = 0.0
sys.exit(main())
"""


def arguments(idx_folder: Path, folder: Path) -> list[str]:
    options = "{latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}"
    return [
        *("fit", "digits", "--data", str(idx_folder), "--threads", "1", "--device", "cpu"),
        *("--runs", str(folder / "runs"), "--models", str(folder / "models")),
        *("tasks=['denoise']", "default_for=[]"),  # one graph to export
        *("training.epochs=3", f"training.batch_size={BATCH}", "training.precision=fp32"),
        f"architecture.options={options}",
    ]


def stop_in_the_middle(words: list[str], how: signal.Signals) -> tuple[int, str]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert "waiting\n" in process.stdout
        process.send_signal(how)
        try:
            _, errors = process.communicate(timeout=300)
        finally:
            process.kill()  # only where it did not stop
    return process.returncode, errors


@pytest.fixture(scope="module")
def unbroken(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a training that nobody stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert main([*arguments(idx_folder, folder), "--quiet"]) == 0
    weights: dict[str, torch.Tensor] = torch.load(folder / "runs" / "digits" / "weights.pt", weights_only=True)
    return weights


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_fit_leaves_no_model_and_the_same_command_ends_with_the_same_weights(
    how: signal.Signals,
    idx_folder: Path,
    tmp_path: Path,
    unbroken: dict[str, torch.Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "runs" / "digits"
    words = arguments(idx_folder, tmp_path)

    status, errors = stop_in_the_middle(words, how)
    had_models = (tmp_path / "models").exists()
    status_of_the_second = main(words)
    said = capsys.readouterr().err

    assert status == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert ("run the same command again to resume" in errors) == (how == signal.SIGINT)
    assert "Traceback" not in errors
    assert not had_models
    assert status_of_the_second == 0
    begun_at = re.search(r"train digits: .*?(\d+)/540", said)
    assert begun_at is not None
    assert int(begun_at[1]) == BATCH * STOPPED_AT  # it went on, and did not begin anew
    assert re.search(r"train digits: +100%.*img/s.*validation mse 0\.\d+", said), said
    assert verify(tmp_path / "models" / "digits" / "1").version == 1
    weights = torch.load(run / "weights.pt", weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in unbroken.items())
