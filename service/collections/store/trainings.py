"""Requested trainings with their states and logs, and the cards of the resulting versions.

    queued -> running -> ready -> approved -> live           failed is possible from all but the last

The job queue assigns trainings to workers. This table keeps their results for longer than a job is kept, as a version
may wait for its approval for days. It is the same in every database, like `feedback.py`.
"""

# ruff: noqa: S608  only constants are formatted into SQL

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

from service.collections.store.rows import now
from service.collections.store.transaction import Ask, Transaction, with_tables
from service.errors import TrainingBusy, TrainingNotFound, TrainingNotReady, shown

T = TypeVar("T")
Work = Literal["calibrate", "fit"]
TrainingState = Literal["queued", "running", "ready", "approved", "live", "failed"]

AT_WORK = ("queued", "running", "approved")
MAX_KEPT = 20  # trainings per model; the oldest are deleted
MAX_WORKERS = 100  # in a list
MAX_LOG = 64 * 1024  # characters; the beginning is cut off
_COLUMNS = "id, model, work, state, created, heard, worker, said, share, old_version, version, problem, job"


@dataclass(frozen=True)
class Training:
    """A training of a model.

    Attributes:
        id: Id of the training.
        model: Name of the model.
        work: "calibrate" sets a new threshold, "fit" trains a new detector.
        state: State of the training.
        created, heard: Times of the request and of the worker's latest report, UTC, ISO 8601.
        worker: Name of the latest worker.
        said, share: Current step, and the finished share of it, in [0, 1].
        old_version: Version from which it started.
        version: Resulting version, once that is live.
        problem: Reason for a failure.
        job: Id of its current job in the queue.
    """

    id: str
    model: str
    work: Work
    state: TrainingState
    created: str
    heard: str | None
    worker: str | None
    said: str
    share: float | None
    old_version: int | None
    version: int | None
    problem: str | None
    job: str | None


@dataclass(frozen=True)
class Outcome:
    """Log of a training, and the card of the new version in Markdown once it is ready."""

    log: str
    card: str | None


class Trainings:
    """The table of trainings, and the time when each worker last asked for work.

    Args:
        transaction: Runs work in a transaction; those of this table are serialised.
        table: Name of the table.
    """

    def __init__(self, transaction: Transaction, *, table: str) -> None:
        self._table = table
        schema = (
            f"CREATE TABLE IF NOT EXISTS {table} (id TEXT NOT NULL PRIMARY KEY, model TEXT NOT NULL, "
            "work TEXT NOT NULL, state TEXT NOT NULL, created TEXT NOT NULL, heard TEXT, worker TEXT, "
            "said TEXT NOT NULL DEFAULT '', share DOUBLE PRECISION, old_version INTEGER, version INTEGER, "
            "problem TEXT, job TEXT, log TEXT NOT NULL DEFAULT '', card TEXT)",
            f"CREATE TABLE IF NOT EXISTS {table}_workers (name TEXT NOT NULL PRIMARY KEY, seen TEXT NOT NULL)",
        )
        self._run = with_tables(transaction, schema)

    def begin(self, training_id: str, model: str, work: Work) -> None:
        """Record a training that is about to be queued. Only the latest `MAX_KEPT` of a model are kept.

        Raises:
            TrainingBusy: Another training of the model is queued or running.
        """

        def begin(ask: Ask) -> None:
            rows = ask(f"SELECT id, state FROM {self._table} WHERE model = ? ORDER BY created DESC, id", model)
            if busy := next((found for found, state in rows if state in AT_WORK), None):
                raise TrainingBusy(
                    f"model {shown(model)} has the training {shown(busy)}, which is queued or running; wait for it, or "
                    f"cancel it with DELETE /models/{model}/training/{{id}}"
                )
            for found, _ in rows[MAX_KEPT - 1 :]:
                ask(f"DELETE FROM {self._table} WHERE id = ?", found)
            ask(
                f"INSERT INTO {self._table} (id, model, work, state, created) VALUES (?, ?, ?, 'queued', ?)",
                *(training_id, model, work, now()),
            )

        self._run(begin)

    def set_job(self, training_id: str, job: str) -> None:
        """Store the job id of a training."""
        self._set(training_id, job=job)

    def of_model(self, model: str) -> list[Training]:
        """Return the trainings of a model, newest first."""
        rows = self._run(
            lambda ask: ask(f"SELECT {_COLUMNS} FROM {self._table} WHERE model = ? ORDER BY created DESC, id", model),
            "read",
        )
        return [Training(*row) for row in rows]

    def find(self, model: str, training_id: str) -> tuple[Training, Outcome]:
        """Return a training with its log and card.

        Raises:
            TrainingNotFound: The training is missing.
        """

        def find(ask: Ask) -> tuple[Training, Outcome]:
            rows = ask(
                f"SELECT {_COLUMNS}, log, card FROM {self._table} WHERE id = ? AND model = ?", training_id, model
            )
            if not rows:
                raise _none(model, training_id)
            return Training(*rows[0][:-2]), Outcome(*rows[0][-2:])

        return self._run(find, "read")

    def start(self, training_id: str, worker: str) -> Training | None:
        """Record that a worker has started a training, and return it; None if it was deleted or has ended."""

        def start(ask: Ask) -> Training | None:
            rows = ask(f"SELECT {_COLUMNS} FROM {self._table} WHERE id = ?", training_id)
            if not rows or rows[0][3] not in AT_WORK:
                return None
            training = Training(*rows[0])
            state = "approved" if training.state == "approved" else "running"
            line = f"{worker} starts again, as the previous worker was lost\n" if training.state == "running" else ""
            ask(
                f"UPDATE {self._table} SET state = ?, worker = ?, heard = ?, said = '', share = NULL, log = log || ? "
                "WHERE id = ?",
                *(state, worker, now(), line, training_id),
            )
            return training

        return self._run(start)

    def report(self, training_id: str, *, said: str, share: float | None, lines: str) -> None:
        """Store the progress of a training and append to its log."""

        def report(ask: Ask) -> None:
            rows = ask(f"SELECT log FROM {self._table} WHERE id = ?", training_id)
            if rows:
                log = (rows[0][0] + lines)[-MAX_LOG:]
                ask(
                    f"UPDATE {self._table} SET said = ?, share = ?, heard = ?, log = ? WHERE id = ?",
                    *(said, share, now(), log, training_id),
                )

        self._run(report)

    def set_ready(self, training_id: str, *, card: str, old_version: int) -> None:
        """Record that the version of a training can be approved."""
        self._set(training_id, state="ready", card=card, old_version=old_version, said="", share=None)

    def set_live(self, training_id: str, *, version: int) -> None:
        """Record that the version is published."""
        self._set(training_id, state="live", version=version, said="", share=None)

    def set_failed(self, training_id: str, problem: str, *, job: str | None = None) -> None:
        """Record the failure of a training; with `job`, only if it is still the job of the training."""
        self._run(
            lambda ask: ask(
                f"UPDATE {self._table} SET state = 'failed', problem = ?, said = '', share = NULL "
                f"WHERE id = ? AND job = coalesce(?, job) AND state IN {AT_WORK}",
                *(problem, training_id, job),
            )
        )

    def approve(self, model: str, training_id: str) -> None:
        """Record the approval of a version.

        Raises:
            TrainingNotFound: The training is missing.
            TrainingNotReady: The training is not in the state "ready".
        """

        def approve(ask: Ask) -> None:
            rows = ask(f"SELECT state FROM {self._table} WHERE id = ? AND model = ?", training_id, model)
            if not rows:
                raise _none(model, training_id)
            if rows[0][0] != "ready":
                raise TrainingNotReady(f"the training is {rows[0][0]!r}; only one that is ready can be approved")
            ask(f"UPDATE {self._table} SET state = 'approved', job = NULL WHERE id = ?", training_id)

        self._run(approve)

    def withdraw(self, training_id: str) -> None:
        """Withdraw an approval: the version must be approved again."""
        self._set(training_id, state="ready")

    def remove(self, model: str, training_id: str) -> Training:
        """Delete a training and return it.

        Raises:
            TrainingNotFound: The training is missing.
        """

        def remove(ask: Ask) -> Training:
            rows = ask(f"DELETE FROM {self._table} WHERE id = ? AND model = ? RETURNING {_COLUMNS}", training_id, model)
            if not rows:
                raise _none(model, training_id)
            return Training(*rows[0])

        return self._run(remove, "delete")

    def see(self, worker: str) -> None:
        """Record that a worker has asked for work now."""

        def see(ask: Ask) -> None:
            ask(f"DELETE FROM {self._table}_workers WHERE name = ? OR seen < ?", worker, _ago(86_400))
            ask(f"INSERT INTO {self._table}_workers (name, seen) VALUES (?, ?)", worker, now())

        self._run(see)

    def workers(self, *, within_s: float) -> list[str]:
        """Return the names of up to `MAX_WORKERS` workers that asked for work within the last `within_s` seconds."""
        rows = self._run(
            lambda ask: ask(
                f"SELECT name FROM {self._table}_workers WHERE seen >= ? ORDER BY name LIMIT {MAX_WORKERS}",
                _ago(within_s),
            ),
            "read",
        )
        return [name for (name,) in rows]

    def _set(self, training_id: str, **values: Any) -> None:  # noqa: ANN401  values of a row
        columns = ", ".join(f"{name} = ?" for name in values)
        self._run(lambda ask: ask(f"UPDATE {self._table} SET {columns} WHERE id = ?", *values.values(), training_id))


def _none(model: str, training_id: str) -> TrainingNotFound:
    return TrainingNotFound(
        f"model {shown(model)} has no training {shown(training_id)}; GET /models/{model}/training lists them"
    )


def _ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")
