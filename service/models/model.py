"""A live model version: its manifest and a batcher per task."""

from service.contract.manifest import Manifest, Task
from service.contract.tables import CELL
from service.limits import Limits
from service.models.batcher import Batcher
from service.models.session import Session
from service.telemetry.counters import Meters


class Model:
    """A live model version. Its threads and sessions end when the last reference goes.

    Attributes:
        manifest: The contract it was verified against.
        label: `<name>/<version>`, as in the header X-Model.
        batcher_by_task: Where each task's jobs go. Tasks do not wait for one another.
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
                # Images that a seed stands for must not depend on what else is asked for meanwhile: in a batch of
                # another size, sums may end in other bits. One by one costs 1.6 times a batch for the shipped digits.
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
        """Open every closed graph. A request opens the graph that it needs.

        Raises:
            NotReady: A file is no longer what it was.
        """
        for session in self._sessions:
            session.open()

    def close_idle(self, idle_s: float) -> bool:
        """Close the graphs that have not run for `idle_s` seconds; return whether there was one.

        Each opens again with its next request.
        """
        closed = [session.close_if_idle(idle_s) for session in self._sessions]  # each is asked
        return any(closed)
