"""Feedback on a model's pictures, downloaded from a service as folders for training."""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx
from tqdm import tqdm

from training.anomaly.parts import find_good
from training.errors import DataError
from training.run import Sources

_TIMEOUT = httpx.Timeout(60.0)  # seconds for each piece of the answer
_FILE = re.compile(r"(good|defect|masks)/([0-9a-f]{64}\.[a-z]{3,4})")  # how the service names the files of the export


@contextmanager
def fetch_feedback(service: str, name: str, *, key: str = "", also: Path | None = None) -> Iterator[Sources]:
    """Download the pictures labelled fine, and those labelled defect, into temporary folders for the block.

    Masks are used only if every defect is marked, since metrics by pixel need all of them.

    Args:
        service: Address of the service, such as http://127.0.0.1:8000.
        name: Model name.
        key: An API key with write access; "" if the service needs none.
        also: A folder of more good pictures, which are added as links.

    Raises:
        DataError: The service does not answer, rejects the request, or has no picture labelled fine.
    """
    with tempfile.TemporaryDirectory() as home:
        archive = Path(home) / "feedback.zip"
        with archive.open("wb") as file:
            _download(service, name, key, file)
        folder_by_kind = {kind: Path(home) / f"{name}-{kind}" for kind in ("good", "defect", "masks")}
        for folder in folder_by_kind.values():
            folder.mkdir()
        _unpack(archive, folder_by_kind, service)
        archive.unlink()
        good, defects, masks = (sorted(folder.iterdir()) for folder in folder_by_kind.values())
        if not good and also is None:
            raise DataError(
                f"nobody has called a picture of {name} at {service} fine ({len(defects)} have a defect); open "
                "ordinary parts on the page and say so of each, or give more good pictures with --data"
            )
        tqdm.write(f"feedback on {name}: {len(good)} fine, {len(defects)} with a defect, {len(masks)} of them marked")
        if also is not None:
            _link(also, folder_by_kind["good"] / "more")
        is_marked = {path.stem for path in defects} == {path.stem for path in masks}
        yield Sources(
            data=folder_by_kind["good"],
            defects=folder_by_kind["defect"] if defects else None,
            masks=folder_by_kind["masks"] if defects and is_marked else None,
        )


def _download(service: str, name: str, key: str, file: BinaryIO) -> None:
    headers = {"Accept": "application/zip"} | ({"X-API-Key": key} if key else {})
    url = f"{service.rstrip('/')}/models/{name}/feedback"
    try:
        with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT) as answer:
            if answer.status_code != httpx.codes.OK:
                answer.read()
                raise DataError(f"GET {url}: {answer.status_code}: {_detail(answer)}")
            for piece in answer.iter_bytes():
                file.write(piece)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DataError(f"{url} does not answer: {error}; is the service running, and is that its address?") from error


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):  # not from our service
        return answer.text[:200] or "no explanation; is that the address of the service?"


def _unpack(archive: Path, folder_by_kind: dict[str, Path], service: str) -> None:
    """Write the pictures of an archive to folders. Archives with unexpected entries are rejected."""
    try:
        with zipfile.ZipFile(archive) as files:
            for entry in files.infolist():
                found = _FILE.fullmatch(entry.filename)
                if entry.filename == "feedback.csv":
                    continue
                if found is None or entry.compress_type != zipfile.ZIP_STORED:
                    raise DataError(f"{service} sent {entry.filename!r}, which is no picture of an export of feedback")
                with files.open(entry) as source, (folder_by_kind[found[1]] / found[2]).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"the export of {service} is broken ({error}); ask again") from error


def _link(good: Path, folder: Path) -> None:
    base = good.resolve()
    for path in find_good(base):
        link = folder / path.relative_to(base)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
