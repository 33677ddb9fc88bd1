# ruff: noqa: N818  a name says what is wrong; "Error" after every one of them adds nothing
"""Exceptions of the client.

ClientError
├── Unreachable       no answer at all: connection refused, broken, or timed out
└── Problem           the service said no; `code` is stable, `detail` is for people
    ├── NotAllowed    401, 403
    ├── NotFound      404: no such model or version
    ├── TooLarge      413
    ├── BadRequest    any other 4xx: the image, the array, a parameter
    ├── Busy          503, also after the retries
    ├── TooLate       504
    └── ServerFault   any other 5xx; `request_id` finds it in the service's log
"""

import json
from collections.abc import Mapping


class ClientError(Exception):
    """The root: everything this client raises on purpose."""


class Unreachable(ClientError):
    """The service did not answer."""


class Problem(ClientError):
    """An error response with a problem document (RFC 9457).

    Attributes:
        status: HTTP status.
        code: Stable, for programs: "broken-image". docs/errors.md lists them.
        detail: What happened, with which value, and what would work.
        request_id: Request id in the service's log; None if the answer has none.
    """

    def __init__(self, status: int, code: str, detail: str, request_id: str | None = None) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class NotAllowed(Problem):
    """A key is missing or wrong."""


class NotFound(Problem):
    """No such model, version or address."""


class TooLarge(Problem):
    """Too many bytes, pixels or images."""


class BadRequest(Problem):
    """The service rejects the image, the array or a parameter."""


class Busy(Problem):
    """The service is overloaded, still loading its models, or shutting down."""


class TooLate(Problem):
    """The answer took longer than the service allows."""


class ServerFault(Problem):
    """The service had an internal error."""


_BY_STATUS: dict[int, type[Problem]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    413: TooLarge,
    503: Busy,
    504: TooLate,
}


def problem_of(status: int, headers: Mapping[str, str], content: bytes) -> Problem:
    """Return the exception for an error response."""
    try:
        document = json.loads(content)
    except ValueError:  # a proxy in between has pages of its own
        document = None
    if not isinstance(document, dict):
        document = {}
    code = str(document.get("code", "unknown"))
    detail = str(document.get("detail", content[:200].decode("utf-8", "replace") or "no explanation"))
    kind = _BY_STATUS.get(status, BadRequest if status < 500 else ServerFault)
    return kind(status, code, detail, document.get("request_id") or headers.get("x-request-id"))
