"""HEAD wherever there is GET."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware that answers HEAD with the headers of GET; the server leaves out the body.

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
        try:
            await self._app(as_get, receive, send)
        finally:
            scope.update({name: value for name, value in as_get.items() if name not in scope})  # what was noted there
