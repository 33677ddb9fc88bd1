"""One request to a server on this machine, on a new connection."""

import contextlib
import http.client

from benchmarks.commands import BenchmarkError

TIMEOUT_S = 1800.0  # a hundred megapixels take minutes


class AnswerError(BenchmarkError):
    """An answer is not the expected one; the message includes it."""


def status_and_body(
    port: int, method: str, path: str, body: bytes | None = None, content_type: str | None = None
) -> tuple[int, bytes]:
    """Send a request and return status and body of the answer.

    Raises:
        OSError: The connection is refused or closed.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error


def post(port: int, path: str, body: bytes, content_type: str) -> bytes:
    """Post a body and return the body of the answer.

    Raises:
        AnswerError: The answer is not 2xx.
        OSError: The connection is refused or closed.
    """
    status, content = status_and_body(port, "POST", path, body, content_type)
    if not 200 <= status < 300:
        raise AnswerError(f"{path} answered {status}: {content[:500]!r}")
    return content
