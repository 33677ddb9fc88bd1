"""Answers a stored request like a new one, with the same limits and tiling."""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Scope

from service.api.jobs.stored import StoredAnswer, StoredRequest
from service.errors import InternalError, problem_bytes
from service.http.admission import TIMEOUT
from service.http.budget import CLIENT, Budget, begin
from service.http.instrument import STATUS
from service.http.problems import PROBLEM

_KEPT_HEADERS = {b"content-type", b"x-model", b"x-resize", b"x-sigma", b"x-seed"}


@dataclass(frozen=True)
class Reply:
    """The answer, and the code of its problem if it is one."""

    answer: StoredAnswer
    content: bytes
    problem: str | None


async def replay(app: ASGIApp, owner: object, stored: StoredRequest, *, budget: Budget, timeout_s: float) -> Reply:
    """Answer a stored request.

    Args:
        app: The routes and error handlers, without the check of keys.
        owner: The application of the routes.
        stored: The stored request.
        budget: Budget for bytes and CPU time.
        timeout_s: Deadline in seconds.
    """
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": stored.path,
        "raw_path": stored.path.encode(),
        "query_string": stored.query.encode("ascii"),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in stored.headers.items()],
        "client": (stored.address, 0),
        "server": ("job", 80),
        "state": {},
        "app": owner,
        TIMEOUT: timeout_s,
        STATUS: [],
    }
    if stored.client is not None:
        scope[CLIENT] = stored.client
    hold = begin(scope, budget)
    messages: list[Message] = [{"type": "http.request", "body": stored.body, "more_body": False}]
    status, headers, parts = 500, {}, list[bytes]()

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # nobody leaves
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            scope[STATUS].append(status)
            headers = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in message["headers"]
                if name in _KEPT_HEADERS
            }
        else:
            parts.append(message.get("body", b""))

    try:
        # What is unforeseen has been answered and logged when it comes here.
        with contextlib.suppress(Exception):
            await app(scope, receive, send)
    finally:
        hold.free()
    if not scope[STATUS]:  # no handler has answered
        error = InternalError("something went wrong on our side; the log has it")
        return Reply(StoredAnswer(error.status, {}), problem_bytes(error.problem()), error.code)
    content = b"".join(part for part in parts if part)  # no copy of a single part
    return Reply(StoredAnswer(status, headers), content, scope.get(PROBLEM))
