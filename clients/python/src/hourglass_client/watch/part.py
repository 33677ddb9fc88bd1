"""One part on the line: an image and its verdict."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hourglass_client.answers import Verdict

Word = Literal["normal", "anomalous", "failed"]


class Stamp(NamedTuple):
    """Identity of an image among images of the same name.

    For an object of a bucket, `inode` is derived from its ETag, where it has one.
    """

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True)
class Part:
    """A part with its verdict or its problem.

    Args:
        id: Number in the order of the verdicts; 0 until it is stored in the history.
        file: Path of the image below the source, with slashes.
        stamp: Stamp of the judged image.
        seen: Time of the verdict, ISO 8601 in UTC.
        word: normal, anomalous, or failed if the service rejects the image.
        verdict: Verdict of the service; None if it failed.
        problem: Error of the image; None if it has none.
    """

    id: int
    file: str
    stamp: Stamp
    seen: str
    word: Word
    verdict: Verdict | None
    problem: str | None

    def document(self) -> dict[str, Any]:  # Any: JSON
        """Return the JSON document for sinks."""
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
        OSError: The file is missing.
    """
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)
