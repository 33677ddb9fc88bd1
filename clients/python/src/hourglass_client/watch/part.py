"""One part on the line: a file as it arrived, and what was made of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hourglass_client.answers import Verdict

Word = Literal["normal", "anomalous", "failed"]


class Stamp(NamedTuple):
    """What tells one file from another of the same name."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True)
class Part:
    """A part that was judged, or that could not be.

    Args:
        id: Counts up in the order of the verdicts; 0 before the history has given one.
        file: Its path below the folder, with slashes.
        stamp: Stamp of the file that was judged.
        seen: When, ISO 8601 in UTC.
        word: normal, anomalous, or failed for a file that is no image the model takes.
        verdict: What the service says, None if it failed.
        problem: What is wrong with the file, None if nothing is.
    """

    id: int
    file: str
    stamp: Stamp
    seen: str
    word: Word
    verdict: Verdict | None
    problem: str | None

    def document(self) -> dict[str, Any]:  # Any: JSON
        """Return what is sent to others, as JSON."""
        verdict = self.verdict
        return {
            "id": self.id,
            "file": self.file,
            "verdict": self.word,
            "score": verdict and verdict.score,
            "threshold": verdict and verdict.threshold,
            "p_value": verdict and verdict.p_value,
            "model": verdict and verdict.model,
            "regions": [asdict(region) for region in verdict.regions] if verdict else [],
            "problem": self.problem,
            "seen": self.seen,
        }


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        OSError: It is not there.
    """
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)
