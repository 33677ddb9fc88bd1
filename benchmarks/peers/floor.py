"""The cost of HTTP alone: `python -m benchmarks.peers.floor PORT ANSWER_FILE`.

A bare ASGI application on uvicorn (uvloop, httptools) that reads the body and returns the bytes of a file.
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

Message = MutableMapping[str, Any]  # as ASGI has it


def main(port: str, answer_file: str) -> None:
    """Serve until it is stopped."""
    answer = Path(answer_file).read_bytes()
    headers = [(b"content-type", b"image/png"), (b"content-length", str(len(answer)).encode())]

    async def app(
        _: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
