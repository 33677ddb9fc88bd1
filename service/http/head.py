"""HEAD wherever there is GET."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware that answers HEAD with the headers of GET; the server leaves out the body.

    A body that is streamed is not waited for: its stream is closed once the headers are sent.

    Args:
        app: What is behind it, and knows GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, as GET if it is a HEAD."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)
        as_get = {**scope, "method": "GET"}  # a copy: the server asks its own how it was
        has_ended = asyncio.Event()

        async def send_head(message: Message) -> None:
            if message.get("more_body", False):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                has_ended.set()
                await asyncio.Event().wait()  # until the stream is cancelled: there is nothing more to send
            await send(message)

        answering = asyncio.ensure_future(self._app(as_get, receive, send_head))
        ending = asyncio.create_task(has_ended.wait())
        try:
            await asyncio.wait([answering, ending], return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            for task in (answering, ending):
                task.cancel()
            await asyncio.wait([answering, ending])
            scope.update({name: value for name, value in as_get.items() if name not in scope})  # what was noted there
