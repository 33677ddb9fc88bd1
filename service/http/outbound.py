"""Outgoing connections: only to hosts that the operator allows, and not into the private network.

The URL of a client is checked twice. Its host must be in the setting. The name is then resolved once, and the
connection uses the checked address, so that a second answer of the name server has no effect.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import InvalidParameter, reason_of, shown

if TYPE_CHECKING:
    import httpx

_PORTS = {"http": 80, "https": 443}
MAX_URL = 2000  # characters


class HostUnreachable(Exception):  # noqa: N818  a name says what is wrong
    """The host does not answer, or the service may not connect to it."""


@dataclass(frozen=True)
class Target:
    """A URL to an allowed host.

    Attributes:
        is_named: Whether the setting has exactly this name, not only a wildcard. Its address may then be private.
    """

    url: "httpx.URL"
    port: int
    is_named: bool


class AllowedHosts:
    """The hosts that a setting allows.

    Args:
        hosts: `hooks.example`, `hooks.example:8443`, `[::1]:9000`, or `*.example` for all below one. Without a port it
            is that of the scheme.
        setting: Name of the setting, for messages.
    """

    def __init__(self, hosts: Sequence[str], *, setting: str) -> None:
        self._hosts = [host.lower() for host in hosts]
        self._setting = setting

    def target(self, url: str, *, parameter: str) -> Target:
        """Parse a URL and check its host against the setting. Nothing is resolved yet.

        Args:
            url: URL from a request.
            parameter: Name of the parameter, for messages.

        Raises:
            InvalidParameter: The URL is not an HTTP address, or its host is not allowed.
        """
        import httpx  # noqa: PLC0415  a tenth of a second, for those that make use of it

        try:
            parsed = httpx.URL(url)
            scheme, host, port = parsed.scheme, parsed.host.lower(), parsed.port
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InvalidParameter(f"{parameter} {shown(url)} is not a URL: {reason_of(error)}") from error
        if scheme not in _PORTS or not host or parsed.userinfo:
            raise InvalidParameter(f"{parameter} {shown(url)} is not a URL; send https://HOST/PATH")
        port = port or _PORTS[scheme]
        written = f"[{host}]" if ":" in host else host
        named = [f"{written}:{port}"] + ([written] if port == _PORTS[scheme] else [])
        is_named = any(name in self._hosts for name in named)
        if not is_named and not any(self._is_below(pattern, named) for pattern in self._hosts):
            raise InvalidParameter(
                f"{parameter} leads to {shown(named[0])}, which is not among the hosts that this service may call "
                f"(setting {self._setting})"
            )
        return Target(parsed, port, is_named)

    @staticmethod
    def _is_below(pattern: str, named: Sequence[str]) -> bool:
        return pattern.startswith("*.") and any(name.endswith(pattern[1:]) for name in named)


@asynccontextmanager
async def request(
    target: Target, method: str, *, timeout_s: float, headers: Mapping[str, str] | None = None, content: bytes = b""
) -> AsyncIterator["httpx.Response"]:
    """Send a request and yield its answer before the body is read. Redirects are not followed.

    Args:
        target: Result of `AllowedHosts.target`.
        method: HTTP method.
        timeout_s: Timeout for connecting, and for each pause of the host.
        headers: Additional headers.
        content: The body.

    Raises:
        HostUnreachable: The connection failed, or the host has a private address and is allowed only by a wildcard.
    """
    import httpx  # noqa: PLC0415

    address = await _address_of(target)
    host = target.url.netloc.decode("ascii")
    try:
        async with (
            httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False) as client,
            client.stream(
                method,
                target.url.copy_with(host=address),
                headers={**(headers or {}), "Host": host, "User-Agent": "hourglass"},
                content=content,
                extensions={"sni_hostname": target.url.host},  # the certificate must be the host's
            ) as response,
        ):
            yield response
    except httpx.HTTPError as error:
        raise HostUnreachable(f"{host}: {reason_of(error)}") from error


async def _address_of(target: Target) -> str:
    """Resolve a host and return an address that the service may connect to."""
    host = target.url.host
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise HostUnreachable(f"{shown(host)} has no address: {reason_of(error)}") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not target.is_named and not _is_public(address):
            raise HostUnreachable(f"{shown(host)} has the private address {address}; only a host named itself may")
    return addresses[0]


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast
