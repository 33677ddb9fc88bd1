"""Shared code of both clients: connection options, and the handling of failed attempts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from hourglass_client.calls import Call
from hourglass_client.errors import ClientError, NotFound, Unreachable, problem_of
from hourglass_client.retry import Retry

T = TypeVar("T")


def http_options(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:  # Any: arguments of httpx
    """Return the options of both clients for httpx.

    Raises:
        ValueError: `url` is not an HTTP address.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is not a URL ({error}); use http://HOST:PORT") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"{url!r} is not a URL; use http://HOST:PORT")
    headers: Mapping[str, str] = {"User-Agent": "hourglass-client"} | ({"X-API-Key": key} if key else {})
    return {"base_url": parsed, "headers": headers, "timeout": timeout_s}


@dataclass(frozen=True)
class Answered(Generic[T]):
    """The parsed answer of a call."""

    value: T


@dataclass(frozen=True)
class Repeat:
    """The call failed and is worth another attempt after `pause_s`."""

    pause_s: float


class Attempts(Generic[T]):
    """The attempts at one call, their results, and when to give up.

    Args:
        call: The call.
        retry: Number and timing of retries.
        url: URL of the service, for messages.
    """

    def __init__(self, call: Call[T], retry: Retry, url: httpx.URL) -> None:
        self._call, self._retry, self._url = call, retry, url
        self._failed = 0
        self._lost_an_answer = False

    def after_error(self, error: httpx.RequestError) -> Repeat:
        """Decide whether to retry after a failed connection.

        Raises:
            Unreachable: All attempts have failed.
        """
        self._lost_an_answer = True
        reason = str(error) or type(error).__name__
        failure = Unreachable(f"{self._url} does not answer: {reason}; is the service running there?")
        return self._repeat(None, {}, failure)

    def after(self, response: httpx.Response) -> Answered[T] | Repeat:
        """Decide whether to return, retry or raise after a response.

        Raises:
            Problem: The service answers with an error that a retry would not help.
        """
        if response.is_success:
            return Answered(self._call.read(response.headers, response.content))
        problem = problem_of(response.status_code, response.headers, response.content)
        if self._call.method == "DELETE" and self._lost_an_answer and isinstance(problem, NotFound):
            # An earlier attempt has deleted it, and only its answer was lost.
            return Answered(self._call.read(response.headers, b""))
        return self._repeat(response.status_code, response.headers, problem)

    def _repeat(self, status: int | None, headers: Mapping[str, str], failure: ClientError) -> Repeat:
        pause_s = self._retry.pause_s(self._failed, status, headers)
        if pause_s is None:
            raise failure
        self._failed += 1
        return Repeat(pause_s)
