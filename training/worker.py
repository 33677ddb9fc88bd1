"""`python -m training worker --service URL`: does the trainings that people ask for on the page of a service.

Each runs as a child, `python -m training calibrate` or `fit`, so it can be cancelled, and what it takes is given back.
It publishes into a folder of its own. Only once somebody has approved the version is it copied into the models
directory, where the service takes it up.
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
    """A training, as the service hands it out."""

    model_config = ConfigDict(frozen=True)

    id: str
    model: str
    work: str
    job: str
    token: str


@dataclass(frozen=True)
class Workplace:
    """Where a worker works, and for whom.

    Attributes:
        service: Address of the service.
        key: An API key of it that may do everything; "" where it asks for none.
        models: Directory of published models: the one that the service serves.
        runs: Where versions wait to be approved.
        data: Folder with one folder of good pictures for each model, which `fit` learns from beside the feedback.
        name: The name that the page shows for this worker.
    """

    service: str
    key: str
    models: Path
    runs: Path
    data: Path | None
    name: str


def work(place: Workplace, *, is_once: bool = False) -> None:
    """Ask for trainings and do them, one at a time, until the process is told to stop.

    Args:
        place: Where, and for whom.
        is_once: Do one and return.

    Raises:
        RunError: The service refuses this worker. While it does not answer, the worker asks again.
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
    """Tell the service something of a training, and return whether it still is this worker's.

    While the service does not answer, nobody knows: it is told again for `for_s` seconds, and then taken for yes.
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
    """Copy an approved version into the models directory: once, even if a worker died just after it did so.

    Raises:
        RunError: It is not here.
        VerifyError, PublishError: It is broken, or cannot be written.
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
    """Remove versions that were discarded, or are live."""
    for stage in (place.runs / STAGED).glob("*/*"):
        try:
            answer = client.get(f"/models/{stage.parent.name}/training/{stage.name}")
        except httpx.TransportError:
            return
        is_gone = answer.status_code == httpx.codes.NOT_FOUND
        if is_gone or (answer.status_code == httpx.codes.OK and answer.json()["state"] in ENDED):
            shutil.rmtree(stage, ignore_errors=True)


def _make(client: httpx.Client, place: Workplace, task: Task, stage: Path) -> dict[str, object]:
    """Make a version in a folder beside which the live one seems to be, and return its card.

    Raises:
        RunError: The command has failed; the message is its own.
        Cancelled: The service wants no more of it.
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
    """Fields of the recipe that the next version has in common with the live one: what clients see of it."""
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
