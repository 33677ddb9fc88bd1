"""Jobs: requests that the service accepts now and answers later."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hourglass_client import calls
from hourglass_client.answers import Latent, Picture, Verdict
from hourglass_client.arrays import ArrayOrder
from hourglass_client.bodies import ImageLike
from hourglass_client.calls import Call, Headers

Result = Picture | Latent | Verdict


@dataclass(frozen=True)
class Job:
    """A job, as the service last described it.

    Attributes:
        id: Id of the job. Keep it to ask for the job from another process.
        state: "queued", "running", "done" or "failed".
        done: Number of finished tiles.
        of: Number of tiles of all files read so far.
        position: Number of jobs that wait before it, or None once it has left the queue.
        detail: Error message, if it has failed.
        read: Parses the result.
    """

    id: str
    state: str
    done: int
    of: int
    position: int | None
    detail: str | None
    read: Callable[[Headers, bytes], Result]

    def __repr__(self) -> str:
        return f"<Job {self.id}, {self.state}, {self.done} of {self.of} tiles>"

    @property
    def has_ended(self) -> bool:
        """Whether the job is done or has failed."""
        return self.state in {"done", "failed"}


def submit(
    endpoint: str,
    image: ImageLike,
    *,
    accept: str | None,
    webhook: str | None,
    query: Mapping[str, object],
    order: ArrayOrder,
    ignore: ImageLike | None = None,
) -> Call[Job]:
    """Make the call that submits a job. Its answer is a `Job` that knows how to read the result.

    Raises:
        ValueError: `endpoint` does not take a single image, or `ignore` is given to another one than "anomaly".
    """
    if ignore is not None and endpoint != "anomaly":
        raise ValueError(f"{endpoint!r} takes no mask of pixels to ignore; only 'anomaly' does")
    call: Call[Any]  # of one of `Result`
    match endpoint:
        case "denoise" | "enhance":
            call = calls.picture(f"/{endpoint}", image, accept=accept, query=query, order=order)
        case "anomaly" if accept is not None or "view" in query:
            call = calls.picture("/anomaly", image, accept=accept, query=query, order=order, ignore=ignore)
        case "anomaly":
            call = calls.anomaly(image, query=query, order=order, ignore=ignore)
        case "encode":
            call = calls.encode(image, query=query, order=order)
        case "compress":
            call = calls.compress(image, query=query, order=order)
        case _:
            raise ValueError(f"{endpoint!r} cannot run as a job; denoise, enhance, anomaly, encode and compress can")
    result_of = call.read

    def read(_: Headers, content: bytes) -> Job:
        return _read_job(content, result_of)

    headers = {**call.headers, "Prefer": "respond-async"}
    return Call(call.method, call.path, read, {**call.query, **_said(webhook)}, headers, call.content)


def _said(webhook: str | None) -> dict[str, str]:
    return {} if webhook is None else {"webhook": webhook}


def look(job: Job) -> Call[Job]:
    """Make a call that gets the state of a job."""
    return Call("GET", f"/jobs/{job.id}", lambda _, content: _read_job(content, job.read))


def result(job: Job) -> Call[Result]:
    """Make a call that gets the result of an ended job."""
    return Call("GET", f"/jobs/{job.id}/result", job.read)


def _read_job(content: bytes, read: Callable[[Headers, bytes], Result]) -> Job:
    found = json.loads(content)
    return Job(
        id=found["id"],
        state=found["state"],
        done=found["progress"]["done"],
        of=found["progress"]["of"],
        position=found["position"],
        detail=found["problem"] and found["problem"]["detail"],
        read=read,
    )
