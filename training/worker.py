"""`python -m training worker --service URL`: runs trainings that are requested on the page of a service.

Each runs as a child process, `python -m training calibrate` or `fit`, so that it can be cancelled and its memory is
freed. It publishes to a separate folder. Once a version is approved, it is copied to the models directory, from which
the service loads it.
"""

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from service.contract.manifest import MANIFEST_FILE, Manifest
from training.child import Cancelled, run_child
from training.errors import PipelineError, RunError
from training.publish import newest_version, publish
from training.run import MODEL, RunDirectory
from training.verify import verify

STAGED = "staged"  # below the directory of runs: versions that wait to be approved
PAUSE_S = 3.0  # between two questions for work
TIDY_EVERY = 20  # of them, the folder of versions that wait is tidied
TELL_FOR_S = 300.0  # how a training ended is told again for so long while the service does not answer
ENDED = ("live", "failed")


class Task(BaseModel):
    """A training leased from the service."""

    model_config = ConfigDict(frozen=True)

    id: str
    model: str
    work: str
    job: str
    token: str


@dataclass(frozen=True)
class Workplace:
    """Service and directories of a worker.

    Attributes:
        service: Address of the service.
        key: An API key with all rights; "" if the service needs none.
        models: Directory of published models that the service serves.
        runs: Directory of versions waiting for approval.
        data: Folder with one folder of good pictures per model, which `fit` uses in addition to the feedback.
        name: Name of this worker on the page.
    """

    service: str
    key: str
    models: Path
    runs: Path
    data: Path | None
    name: str


def work(place: Workplace, *, is_once: bool = False) -> None:
    """Poll the service for trainings and run them, one at a time, until the process is stopped.

    While the service does not answer, the worker retries.

    Args:
        place: Service and directories.
        is_once: Run one training and return.

    Raises:
        RunError: The service rejects this worker.
    """
    tqdm.write(f"{place.name} asks {place.service} for trainings; stop it with Ctrl-C")
    with httpx.Client(base_url=place.service.rstrip("/"), headers=_headers(place.key), timeout=30.0) as client:
        idle = 0
        while True:
            task = _ask(client, place)
            if task is None:
                idle += 1
                if idle % TIDY_EVERY == 0:
                    _tidy(client, place)
                time.sleep(PAUSE_S)
                continue
            _do(client, place, task)
            if is_once:
                return


def _headers(key: str) -> dict[str, str]:
    return {"X-API-Key": key} if key else {}


def _ask(client: httpx.Client, place: Workplace) -> Task | None:
    try:
        answer = client.post("/training/lease", json={"worker": place.name})
    except httpx.TransportError as error:
        tqdm.write(f"{place.service} does not answer ({error}); asking again")
        return None
    if answer.status_code == httpx.codes.NO_CONTENT:
        return None
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        tqdm.write(f"{place.service} says {answer.status_code}; asking again")
        return None
    if answer.status_code != httpx.codes.OK:
        raise RunError(f"{place.service} refuses this worker: {answer.status_code}: {answer.text[:300]}")
    return Task.model_validate_json(answer.content)


def _do(client: httpx.Client, place: Workplace, task: Task) -> None:
    tqdm.write(f"{task.work} {task.model} ({task.id})")
    stage = place.runs / STAGED / task.model / task.id
    try:
        if task.work == "publish":
            end: dict[str, object] = {"version": int(_publish(place, task, stage).name)}
        else:
            end = _make(client, place, task, stage)
    except (PipelineError, OSError) as error:
        end = {"problem": str(error)[:4000]}
    except Cancelled:
        tqdm.write(f"{task.work} {task.model}: cancelled")
        shutil.rmtree(stage, ignore_errors=True)
        return
    is_taken = _tell(client, task, "end", end, for_s=TELL_FOR_S)
    if not is_taken or "card" not in end:  # only a version that waits to be approved is kept
        shutil.rmtree(stage, ignore_errors=True)
    tqdm.write(f"{task.work} {task.model}: {end.get('problem', 'done') if is_taken else 'cancelled'}")


def _tell(client: httpx.Client, task: Task, what: str, said: dict[str, object], *, for_s: float = 0.0) -> bool:
    """Report on a training to the service, and return whether this worker still holds the lease.

    While the service does not answer, the report is retried for `for_s` seconds. After that, return True.
    """
    end = time.monotonic() + for_s
    while True:
        try:
            answer = client.post(f"/training/{task.id}/{what}", json={"job": task.job, "token": task.token, **said})
            if answer.status_code == httpx.codes.OK:
                return bool(answer.json()["go_on"])
            reason = f"{answer.status_code}: {answer.text[:200]}"
        except httpx.TransportError as error:
            reason = str(error)
        if time.monotonic() >= end:
            tqdm.write(f"the service was not told of {task.id}: {reason}")
            return True
        time.sleep(PAUSE_S)


def _publish(place: Workplace, task: Task, stage: Path) -> Path:
    """Copy an approved version into the models directory, exactly once even if a worker dies after the copy.

    Raises:
        RunError: The version is missing.
        VerifyError, PublishError: The version is broken, or cannot be written.
    """
    if not (stage / MODEL / MANIFEST_FILE).is_file():
        raise RunError(
            f"the version is not in {stage}; start the worker with the --runs that it was made in, or train again"
        )
    made, newest = verify(stage / MODEL), newest_version(place.models / task.model)
    if newest is not None and _without_number(verify(newest)) == _without_number(made):
        return newest
    target = publish(RunDirectory(stage, task.model), place.models)
    verify(target)
    return target


def _without_number(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"version": 1})


def _tidy(client: httpx.Client, place: Workplace) -> None:
    """Remove versions that were discarded or are live already."""
    for stage in (place.runs / STAGED).glob("*/*"):
        try:
            answer = client.get(f"/models/{stage.parent.name}/training/{stage.name}")
        except httpx.TransportError:
            return
        is_gone = answer.status_code == httpx.codes.NOT_FOUND
        if is_gone or (answer.status_code == httpx.codes.OK and answer.json()["state"] in ENDED):
            shutil.rmtree(stage, ignore_errors=True)


def _make(client: httpx.Client, place: Workplace, task: Task, stage: Path) -> dict[str, object]:
    """Train a version in a separate folder with a link to the live version, and return its card.

    Raises:
        RunError: The command failed, with its own message.
        Cancelled: The service cancelled the training.
    """
    live = newest_version(place.models / task.model)
    if live is None:
        raise RunError(f"{place.models} has no model {task.model!r}; give --models, the directory that is served")
    manifest = verify(live)
    shutil.rmtree(stage, ignore_errors=True)  # of a worker that went away
    home = stage / "models" / task.model
    home.mkdir(parents=True)
    (home / live.name).symlink_to(live.resolve())
    command = [sys.executable, "-m", "training", *_words(place, task, manifest, stage)]
    run_child(command, key=place.key, report=lambda said: _tell(client, task, "report", said))
    (home / live.name).unlink()
    made = newest_version(home)
    if made is None:
        raise RunError("the command has made no version")
    made.rename(stage / MODEL)
    card = (stage / MODEL / "README.md").read_text("utf-8")
    return {"card": card, "old_version": int(live.name)}


def _words(place: Workplace, task: Task, live: Manifest, stage: Path) -> list[str]:
    models = ["--models", str(stage / "models")]
    feedback = ["--feedback", place.service]
    if task.work == "calibrate":
        return ["calibrate", task.model, *feedback, *models]
    good = place.data / task.model if place.data is not None else None
    data = ["--data", str(good)] if good is not None and good.is_dir() else []
    named = ["--name", task.model, "--runs", str(stage / "runs")]
    return ["fit", "anomaly", *data, *feedback, *named, *models, *_as_before(live)]


def _as_before(live: Manifest) -> list[str]:
    """Return overrides that keep the client-visible fields of the live version."""
    size, calibration = live.input, live.anomaly
    fields: dict[str, object] = {"summary": live.summary, "data.channels": size.channels}
    if size.height and size.width:
        fields |= {"data.height": size.height, "data.width": size.width}
    if size.resize in {"exact", "fit"}:
        fields["data.resize"] = size.resize
    if calibration is not None:
        fields["target_fpr"] = calibration.target_fpr
    fields["default_for"] = list(live.default_for)
    return [f"{name}={json.dumps(value)}" for name, value in fields.items()]  # such JSON is TOML, too
