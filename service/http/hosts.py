"""Which names the service answers under: a web page must not reach it under the name of its own site.

A site whose name leads to 127.0.0.1 after its page has been loaded ("DNS rebinding") is of the same origin as our
answers for a browser. The Host header still has the site's name.
"""

import ipaddress
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import WrongHost, shown
from service.http.problems import problem_response
from service.http.sent import header

_LOCAL_NAMES = {"localhost", "ip6-localhost"}


class HostGate:
    """ASGI middleware that refuses requests under other names.

    Args:
        app: The application.
        allowed: Names, `*.example` for all subdomains. Addresses and names without a dot always pass, since such names
            cannot be registered on the internet.
    """

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        self._app = app
        self._names = {name.lower() for name in allowed if not name.startswith("*.")}
        self._endings = tuple(name[1:].lower() for name in allowed if name.startswith("*."))
        self._passed: set[str] = set()  # a few, looked up in no time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421, or pass the request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        host = header(scope, b"host") or ""
        if host not in self._passed:
            if not self._is_allowed(host):
                error = WrongHost(
                    f"the request is for {shown(host)}, which is not a name of this service; add it to the setting "
                    "allowed_hosts",
                    headers={"Connection": "close"},
                )
                return await problem_response(error)(scope, receive, send)
            if len(self._passed) < 100:
                self._passed.add(host)
        return await self._app(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        if host.startswith("["):
            address, _, port = host[1:].partition("]")
            return _is_address(address) and (not port or port.startswith(":"))
        name = host.partition(":")[0].lower().rstrip(".")
        return "." not in name or name in self._names or name.endswith(self._endings) or _is_address(name)


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine only."""
    try:
        return host in _LOCAL_NAMES or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
