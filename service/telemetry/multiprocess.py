"""Share counters between workers, so that any of them can answer a scrape for all.

Every worker writes its state to its file in a directory of the supervisor: every second, and before it answers a
scrape. A worker that replaces a dead one continues with its counts.
"""

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import orjson

from service.telemetry.counters import State, together

log = logging.getLogger(__name__)

PERIOD_S = 1.0


@dataclass(frozen=True)
class SharedCounters:
    """Files with the counters of all workers, one for each.

    Args:
        directory: Directory shared by the workers; None if there is only one.
        place: Number of this worker, from 0.
    """

    directory: Path | None = None
    place: int = 0

    def read_own(self) -> State | None:
        """Read the state that an earlier worker in this place has written; None if there is none."""
        return _read(self._path(self.place)) if self.directory is not None else None

    def share(self, state: State) -> State:
        """Write the state of this worker and return the sum over all workers."""
        if self.directory is None:
            return state
        path = self._path(self.place)
        hidden = path.with_suffix(".new")
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)  # a cleaner of temporary files may have removed it
            hidden.write_bytes(_to_json(state))
            hidden.replace(path)
        except OSError as error:  # the disk may be full: this worker can still report its own state
            log.warning("the counters of this worker cannot be shared: %s", error)
        others = [_read(other) for other in self.directory.glob("*.json") if other != path]
        return together([state, *(other for other in others if other is not None)])

    def _path(self, place: int) -> Path:
        assert self.directory is not None  # noqa: S101  for the type checker: callers have checked
        return self.directory / f"{place}.json"


def _to_json(state: State) -> bytes:
    return orjson.dumps(
        {
            "values": [[*key, value] for key, value in state.values.items()],
            "histograms": [[key, *figures] for key, figures in state.histograms.items()],
            "scores": state.scores,
        }
    )


def _read(path: Path) -> State | None:
    # The file may not be written yet, or removed, or incomplete.
    with contextlib.suppress(OSError, orjson.JSONDecodeError, KeyError):
        document = orjson.loads(path.read_bytes())
        return State(
            {tuple(key): value for *key, value in document["values"]},
            {tuple(key): (counts, total) for key, counts, total in document["histograms"]},
            document["scores"],
        )
    return None
