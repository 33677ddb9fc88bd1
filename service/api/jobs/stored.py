"""Serialisation of requests in the job queue: a line of JSON, then the body. Answers are stored likewise."""

import json
from dataclasses import asdict, dataclass
from typing import Self
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

from service.http.api_keys import owner_of

KIND = "request"

_HEADERS = ("accept", "content-type")  # that a model's answer depends on
_NOT_ITS_OWN = {"webhook"}  # parameters that say what becomes of the answer


@dataclass(frozen=True)
class StoredRequest:
    """The parts of a request that are stored with a job.

    Attributes:
        query: Query string, as in a URL.
        headers: Those that its answer depends on; lower case.
        client: Key that sent it, as a digest; None without keys.
        address: Network address of the client.
    """

    path: str
    query: str
    headers: dict[str, str]
    client: str | None
    address: str
    body: bytes = b""

    @classmethod
    def of(cls, request: Request, body: bytes) -> Self:
        """Keep the parts of a request that its answer depends on."""
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        return cls(
            path=request.url.path,
            query=urlencode([(name, value) for name, value in pairs if name not in _NOT_ITS_OWN]),
            headers={name: request.headers[name] for name in _HEADERS if name in request.headers},
            client=owner_of(request.scope),
            address=(request.scope.get("client") or ("unknown",))[0],
            body=body,
        )

    def to_bytes(self) -> bytes:
        """Serialise as one line of JSON and the body."""
        head = {name: value for name, value in asdict(self).items() if name != "body"}
        return json.dumps(head).encode("ascii") + b"\n" + self.body

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Parse the output of `to_bytes`."""
        head, _, body = payload.partition(b"\n")
        return cls(**json.loads(head), body=body)


@dataclass(frozen=True)
class StoredAnswer:
    """An answer without its body.

    Attributes:
        headers: The content type, and ours; lower case.
    """

    status: int
    headers: dict[str, str]

    def to_json(self) -> str:
        """Serialise as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the output of `to_json`."""
        return cls(**json.loads(text))
