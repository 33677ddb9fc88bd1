"""The files of the pages, as they are in `static/`."""

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

TYPE_BY_ENDING = {
    "css": "text/css",
    "html": "text/html",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
}


@cache
def static_files() -> dict[str, bytes]:
    """Map the path of each file below `static/` to its content."""
    content_by_path: dict[str, bytes] = {}

    def collect(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                collect(entry, f"{prefix}{entry.name}/")
            elif entry.name.rpartition(".")[2] in TYPE_BY_ENDING:
                content_by_path[prefix + entry.name] = entry.read_bytes()

    collect(resources.files("service") / "static", "")
    return content_by_path
