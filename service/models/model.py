"""A live model version: its manifest and a batcher per task."""

from service.contract.manifest import Manifest, Task
from service.contract.tables import CELL
from service.limits import Limits
from service.models.batcher import Batcher
from service.models.session import Session
from service.telemetry.counters import Meters


class Model:
    """A live model version. Its threads and sessions end with its last reference.

    Attributes:
        manifest: Manifest of the version.
        label: Model label, `<name>/<version>`, as in the header X-Model.
        batcher_by_task: Batcher of each task. Tasks do not wait for one another.
    """

    def __init__(
        self, manifest: Manifest, session_by_task: dict[Task, Session], limits: Limits, meters: Meters
    ) -> None:
        self.manifest = manifest
        self.label = f"{manifest.name}/{manifest.version}"
        self._sessions = tuple(session_by_task.values())
        self.batcher_by_task: dict[Task, Batcher] = {
            task: Batcher(
                session.run,
                stop=session.stop,
                # The image of a seed must not depend on other requests: sums may differ in their last bits with the
                # size of the batch. For the shipped digits, one by one takes 1.6 times as long as a batch.
                max_batch=1 if task == "generate" else limits.max_batch,
                max_pixels=limits.max_pixels,
                max_batch_pixels=limits.max_batch_pixels,
                cell=CELL if task == "decompress" and manifest.input.height is None else 1,
                name=f"{self.label} {task}",
                meter=meters.graph(manifest.name, manifest.version, task),
            )
            for task, session in session_by_task.items()
        }

    @property
    def is_open(self) -> bool:
        """Whether any graph of the model is in memory."""
        return any(session.is_open for session in self._sessions)

    def open(self) -> None:
        """Open every closed graph. Requests open only the graph they need.

        Raises:
            NotReady: A file is gone or changed.
        """
        for session in self._sessions:
            session.open()

    def close_idle(self, idle_s: float) -> bool:
        """Close the graphs that have not run for `idle_s` seconds; return whether any was closed.

        A closed graph opens again with its next request.
        """
        closed = [session.close_if_idle(idle_s) for session in self._sessions]  # a list: `any` would stop early
        return any(closed)
