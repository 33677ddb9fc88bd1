"""Files of the service that a small request to /denoise enters, in order.

    python -m benchmarks.micro walk
    python -m benchmarks.micro walk models/digits

The request calls the application directly, without sockets. A file counts if one of its functions runs, in the event
loop or in a thread; code that runs only on import does not count.
"""

import asyncio
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from starlette.types import Message, Scope

from benchmarks.machine import ROOT
from benchmarks.micro.case import parser_of
from benchmarks.samples import NOISY
from service.api.app import create_app
from service.settings import Settings

SERVICE = ROOT / "service"
POLL_S = 0.05
NOT_READY = 503


def measure(words: Sequence[str]) -> str:
    """Trace the second request and return a line per file."""
    parser = parser_of("walk", __doc__)
    parser.add_argument("models", nargs="?", type=Path, default=ROOT / "models", help="default: the shipped ones")
    files = asyncio.run(files_entered(parser.parse_args(words).models))
    lines = [f"{number}. `{file}`: {', '.join(names)}" for number, (file, names) in enumerate(files.items(), 1)]
    return "\n".join([f"/denoise of a 28x28 PNG enters {len(files)} files of service/:", "", *lines])


async def files_entered(models: Path) -> dict[str, list[str]]:
    """Answer one request, and return the functions entered by file, in order."""
    entered: dict[str, list[str]] = {}
    is_on = False

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if not is_on or event != "call" or not code.co_filename.startswith(str(SERVICE)):
            return
        names = entered.setdefault(str(Path(code.co_filename).relative_to(SERVICE)), [])
        if code.co_name.isidentifier() and code.co_name not in names:  # neither lambdas nor comprehensions
            names.append(code.co_name)

    threading.setprofile(note)  # of threads that start from here on: the graphs' are among them
    app = create_app(Settings(models_dir=models))
    async with app.router.lifespan_context(app):
        while await ask(app) == NOT_READY:
            await asyncio.sleep(POLL_S)
        sys.setprofile(note)
        is_on = True
        await ask(app)
        is_on = False
        sys.setprofile(None)
    threading.setprofile(None)
    return entered


async def ask(app: object) -> int:
    """Post a digit and return the status of the answer."""
    statuses: list[int] = []
    bodies = iter([{"type": "http.request", "body": NOISY, "more_body": False}])

    async def receive() -> Message:
        if (message := next(bodies, None)) is None:
            await asyncio.Event().wait()  # the client stays
            raise AssertionError
        return message

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", b"localhost"), (b"content-type", b"image/png"), (b"content-length", b"%d" % len(NOISY))]
    scope: Scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/denoise",
        "raw_path": b"/denoise", "query_string": b"", "root_path": "", "headers": headers, "state": {},
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)  # type: ignore[operator]  # any ASGI application
    return statuses[0]
