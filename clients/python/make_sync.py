"""Make `sync.py` from `aio.py`: `python clients/python/make_sync.py`. A test says when that was forgotten."""

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "src" / "hourglass_client"
_RULES = (
    (
        r'^"""The client for asyncio.*?"""',
        '"""The client that waits. Generated from `aio.py` by `make_sync.py`: edit that."""',
    ),
    (r"A service, as coroutines\.", "A service, as methods. Safe to share between threads."),
    (r"import asyncio\n", "import time\n"),
    (r"Awaitable, ", ""),
    (r"Awaitable\[(\w+)\]", r"\1"),
    (r"\basyncio\.sleep", "time.sleep"),
    (r"\b(?:async|await) ", ""),
    (r"\bask_each_async\b", "ask_each"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b__a(enter|exit)__", r"__\1__"),
    (r"\baclose\b", "close"),
)


def synchronous(source: str) -> str:
    """Return the same client without asyncio, formatted."""
    for pattern, replacement in _RULES:
        source = re.sub(pattern, replacement, source)
    return _ruff("format", _ruff("check", source, "--fix", "--select", "I"))


def _ruff(command: str, source: str, *flags: str) -> str:
    words = [sys.executable, "-m", "ruff", command, "-q", *flags, "--stdin-filename", str(SOURCE / "sync.py"), "-"]
    return subprocess.run(words, input=source, capture_output=True, text=True, check=True).stdout  # noqa: S603


if __name__ == "__main__":
    (SOURCE / "sync.py").write_text(synchronous((SOURCE / "aio.py").read_text()))
