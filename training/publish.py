"""From a finished run to `models/<name>/<version>/`: whole or not at all."""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Generator

from service.contract.manifest import (
    MANIFEST_FILE,
    Calibration,
    Data,
    Examples,
    Generate,
    Golden,
    Graph,
    InputSpec,
    Latent,
    Manifest,
    Metric,
    Split,
    Start,
    Task,
)
from training.calibrate import too_few
from training.card import PICTURE, card
from training.corruptions import corrupt
from training.errors import PublishError
from training.files import write_atomically
from training.graphs import graph_for
from training.images.pixels import to_pixels
from training.metrics import TEST_NOISE_SEED
from training.picture import rows_of_images
from training.prior import FittedPrior
from training.problems.one_size import trained
from training.provenance import provenance_of
from training.run import CALIBRATION, EVALUATION, GRAPHS, MODEL, PRIOR, REPORT, START, Run, RunDirectory

SHOWN_IMAGES = 12
_NUMBERS = re.compile(r"\[\n\s*([^][{}\"]*?)\n\s*\]")  # a list of nothing else


def assemble(run: Run, version: int) -> Path:
    """Everything that a version consists of, in the run's `model/`: graphs, golden sample, picture, card, manifest."""
    directory = run.path(MODEL)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    manifest = build_manifest(run, version)
    for file in [graph.file for graph in manifest.tasks.values()] + [manifest.golden.file]:
        shutil.copyfile(run.path(file), directory / file)
    with write_atomically(directory / PICTURE) as out:
        out.write(_picture(run))
    write_card_and_manifest(directory, manifest)
    return directory


def build_manifest(run: Run, version: int) -> Manifest:
    """What the run's stages found, as the contract wants it."""
    recipe, data = run.recipe, run.data
    graphs, evaluation, report = (
        run.read(GRAPHS, "export"),
        run.read(EVALUATION, "evaluate"),
        run.read(REPORT, "train"),
    )
    metrics, limits = list(evaluation["metrics"]), list(recipe.limits)
    calibration: Calibration | None = None
    if "anomaly" in recipe.tasks:
        calibrated = run.read(CALIBRATION, "calibrate")
        calibration = Calibration.model_validate(calibrated["calibration"])
        metrics += calibrated["metrics"]
        limits += [sentence] if (sentence := too_few(calibration)) else []
    parts = {name: len(getattr(data, name)) for name in ("train", "validation", "calibration", "test")}
    return Manifest(
        name=run.name,
        version=version,
        created=datetime.now(UTC).replace(microsecond=0),
        summary=recipe.summary,
        architecture=recipe.architecture.name,
        default_for=recipe.default_for,
        tasks={task: Graph.model_validate(graphs["tasks"][task]) for task in recipe.tasks},
        input=InputSpec(
            channels=recipe.data.channels,
            height=recipe.data.height,
            width=recipe.data.width,
            resize=recipe.data.resize,
        ),
        latent=Latent.model_validate(evaluation["latent"]) if evaluation["latent"] else None,
        examples=Examples.model_validate(evaluation["examples"]) if evaluation.get("examples") else None,
        anomaly=calibration,
        generate=_generate(run),
        golden=Golden.model_validate(graphs["golden"]),
        metrics=tuple(Metric.model_validate(m) for m in metrics),
        provenance=provenance_of(
            recipe,
            report,
            Data(
                name=data.name,
                source=data.source,
                licence=data.licence,
                sha256=data.sha256,
                images=data.image_count,
                split=Split(**parts),
            ),
            command=run.command,
            commit=graphs["commit"],
            start=_start(run),
        ),
        limits=tuple(limits),
    )


def _start(run: Run) -> Start | None:
    if run.recipe.training.start_from is None:
        return None
    return Start.model_validate(run.read(START, "train"))


def _generate(run: Run) -> Generate | None:
    if "generate" not in run.recipe.tasks:
        return None
    prior = FittedPrior.load(run.path(PRIOR))
    return Generate(labels=prior.labels, shares=prior.shares)


def publish(run: RunDirectory, models: Path) -> Path:
    """Copy the run's verified `model/` to the next free version of `models/<name>/` and return that directory.

    It is written under a hidden name, synced to disk, then renamed: a reader sees all of it or none.

    Raises:
        PublishError: The models directory cannot be written.
    """
    source, home = run.path(MODEL), models / run.name
    staging = home / f".tmp-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        staging.mkdir()
        for path in sorted(source.iterdir()):  # one by one: copytree goes on after a full disk and lists every file
            shutil.copyfile(path, staging / path.name)
        manifest = Manifest.model_validate_json((staging / MANIFEST_FILE).read_bytes())
        while True:
            version = next_version(home)
            write_card_and_manifest(staging, manifest.model_copy(update={"version": version}))
            _sync(staging)
            target = home / str(version)
            try:
                staging.rename(target)
            except OSError:
                if target.exists():  # another process was faster: take the next number
                    continue
                raise
            _sync_directory(home)
            return target
    except OSError as error:
        raise PublishError(
            f"cannot publish to {home}: {error.strerror or error}; make room there, make it writable, or give another "
            f"--models. The run is kept: `python -m training publish {run.directory}` tries again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def discard_folder(directory: Path) -> None:
    """An empty folder in its place."""
    if directory.exists():
        for file in directory.iterdir():
            file.unlink()
    directory.mkdir(exist_ok=True)


def newest_version(home: Path) -> Path | None:
    """The directory of the highest version in `home`, a model's directory; None where there is none."""
    versions = [path for path in home.glob("*") if path.name.isdecimal()] if home.is_dir() else []
    return max(versions, key=lambda path: int(path.name), default=None)


def next_version(home: Path) -> int:
    """One more than the highest version in `home`; 1 where there is none."""
    newest = newest_version(home)
    return int(newest.name) + 1 if newest else 1


def git_commit() -> str:
    """The commit of this code, marked `-dirty` where files differ from it; "unknown" where it is not in git."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(  # noqa: S603 - no input
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _picture(run: Run) -> bytes:
    x = to_pixels(run.data.test[:SHOWN_IMAGES])
    model = trained(run.recipe, run.directory)
    task: Task = "denoise"
    x_noisy = corrupt(x, run.recipe.corruption, Generator().manual_seed(TEST_NOISE_SEED))
    with torch.no_grad():
        x_hat = graph_for(task, model)(x_noisy)
    return rows_of_images({"original": x, "noisy": x_noisy, "denoised": x_hat})


def write_card_and_manifest(directory: Path, manifest: Manifest) -> None:
    """Both into a version's directory; the manifest is the last file of it."""
    with write_atomically(directory / "README.md") as out:
        out.write(card(manifest).encode())
    with write_atomically(directory / MANIFEST_FILE) as out:  # last: a directory without it is no version
        out.write(_NUMBERS.sub(_on_one_line, manifest.model_dump_json(indent=1)).encode())


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def _sweep(home: Path) -> None:
    """Remove what killed processes left behind."""
    for left in home.glob(".tmp-*"):
        pid = left.name.removeprefix(".tmp-")
        if not _is_running(pid):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)  # signal 0 only asks
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError):
        return False
    return True


def _sync(directory: Path) -> None:
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
