"""The help pages, as `docs/build_site.py` has built them into `service/help/`."""

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from service.api.static_files import TYPE_BY_ENDING

FOLDER = resources.files("service") / "help"
_TYPES = TYPE_BY_ENDING | {"gif": "image/gif", "json": "application/json", "svg": "image/svg+xml", "yml": "text/yaml"}
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_ROOTED = re.compile(rb'((?:href|src)="|"base":")/')  # the 404 page does not know where it will be shown


@cache
def help_files() -> frozenset[str]:
    """Return the path of every file of the help pages; empty if they have not been built."""
    found: set[str] = set()

    def collect(folder: str) -> None:
        for entry in (FOLDER.joinpath(folder) if folder else FOLDER).iterdir():
            name = f"{folder}/{entry.name}".removeprefix("/")
            if entry.is_dir():
                collect(name)
            elif entry.name.rpartition(".")[2] in _TYPES:
                found.add(name)

    if FOLDER.is_dir():
        collect("")
    return frozenset(found)


def read_help(name: str) -> bytes:
    """Read one of `help_files`."""
    return FOLDER.joinpath(name).read_bytes()


def media_type_of(name: str) -> str:
    """Return the media type of one of `help_files`."""
    return _TYPES[name.rpartition(".")[2]]


def not_found_page(*, depth: int) -> bytes:
    """Return the 404 page, with links that work at this depth.

    Args:
        depth: Number of folders below `/help/` that the address has.
    """
    base = b"../" * depth
    return _ROOTED.sub(rb"\1" + (base or b"./"), read_help("404.html"))


def content_security_policy(page: bytes) -> str:
    """Return the policy of a page: nothing from elsewhere, and of inline scripts only those it was built with."""
    scripts = " ".join(sorted({_hash(script) for script in _INLINE_SCRIPT.findall(page)}))
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
