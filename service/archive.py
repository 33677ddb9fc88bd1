"""Several files in one answer: a ZIP, stored rather than compressed since images do not shrink."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest date a ZIP can hold: equal input gives equal bytes


@dataclass(frozen=True)
class Entry:
    """One file of an archive. Names are ours, never the client's, so none can point elsewhere."""

    name: str
    content: bytes


def write_zip(entries: Sequence[Entry]) -> bytes:
    """The archive, its files in the order given."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            archive.writestr(zipfile.ZipInfo(entry.name, _LONG_AGO), entry.content)
    return file.getvalue()
