"""The head of an answer leaves together with the start of its body."""

import asyncio
from collections.abc import Iterable
from typing import cast

import pytest

from service.server.one_write import OneWrite

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Kept:
    """A transport that keeps what each call sends."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.calls.append(bytes(data))

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.calls.append(b"".join(parts))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("sent", "calls"),
    [
        ([HEAD, b"body"], [HEAD + b"body"]),
        ([HEAD, memoryview(b"body")], [HEAD + b"body"]),
        ([HEAD, b""], [HEAD]),  # an answer without a body
        ([HEAD, b"a", b"b", HEAD], [HEAD + b"a", b"b", HEAD]),  # a body may look like a head
        ([HEAD, b"x" * 2**17, b"y"], [HEAD + b"x" * 2**17, b"y"]),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"body"], [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"body"]),
    ],
)
def test_the_head_waits_for_the_start_of_the_body(sent: list[bytes], calls: list[bytes]) -> None:
    kept = Kept()
    answer = OneWrite(cast("asyncio.Transport", kept))

    for data in sent:
        answer.write(data)

    assert kept.calls == calls


def test_a_head_whose_body_never_comes_is_sent_at_the_end() -> None:
    kept = Kept()
    answer = OneWrite(cast("asyncio.Transport", kept))
    answer.write(HEAD)
    assert kept.calls == []

    answer.close()

    assert (kept.calls, kept.is_closed) == ([HEAD], True)
