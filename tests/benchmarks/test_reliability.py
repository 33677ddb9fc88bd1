"""The requests and tables of `python -m benchmarks.reliability`."""

import io
import math
from typing import cast

import pytest

from benchmarks.http.before import row_of
from benchmarks.http.visits import Visit
from benchmarks.reliability.bodies import Body
from benchmarks.reliability.bombs import Cost
from benchmarks.reliability.fairness import Answers
from benchmarks.reliability.kinds import BOMBS, Bomb, false_npy, sliver_file
from benchmarks.reliability.line import Told
from service.contract.container import read_container
from service.errors import InvalidArray
from service.images.npy import read_npy_image


def test_a_request_that_is_sent_as_bytes_says_how_long_its_body_is() -> None:
    bomb = Bomb("pipelining", "/denoise", Body(b"abc", {"Accept": "image/png"}))

    assert bomb.raw == b"POST /denoise HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nAccept: image/png\r\n\r\nabc"


def test_a_compressed_file_claims_its_pixels_in_some_bytes() -> None:
    body = sliver_file()

    assert read_container(body.content, max_images=1).sizes == ((1, 25_000_000),)
    assert len(body.content) < 100


def test_an_array_with_two_shapes_is_refused() -> None:
    with pytest.raises(InvalidArray):
        read_npy_image(false_npy().content, max_images=1000, max_pixels=2**20)


def test_every_kind_of_small_request_has_an_example() -> None:
    assert len(BOMBS) > 20


def test_a_killed_service_has_no_times() -> None:
    cost = Cost("none", 2**30, is_killed=True, stall_s=1.0, until_s=1.0, after_s=1.0, is_cut_off=False)

    assert cost.cells == ["killed", "1024 MiB", "-", "-", "-"]


def test_only_answers_in_time_count_as_fair() -> None:
    answers = Answers([(200, 1.0), (200, 11.0), (503, 0.1), (200, 9.9)])

    assert answers.share_within(10.0) == 0.5
    assert answers.cells() == ["3 of 4", "5.45 s", "11.00 s"]


def test_ratios_of_two_checkouts_are_those_of_each_round() -> None:
    before, after = [Visit(100, 10), Visit(50, 20), Visit(80, 10)], [Visit(90, 11), Visit(50, 20), Visit(40, 15)]

    assert row_of("/encode", before, after) == [
        *("`/encode`", "80", "50", "0.90", "0.50-1.00", "10", "15", "1.10", "1.00-1.50"),
    ]


def test_a_line_of_watch_that_comes_in_pieces_is_one_verdict() -> None:
    told = Told(Pieces([b"OK\t0.p", b"ng\t0.5\tid", None, b"\nNG\t1.png\t0.9\tid\n"]))

    told.listen(until=math.inf, enough=2)

    assert list(told.time_by_name) == ["0.png", "1.png"]


class Pieces(io.BytesIO):
    """A pipe that does not block: what is there, or None."""

    def __init__(self, pieces: list[bytes | None]) -> None:
        super().__init__()
        self._pieces = iter(pieces)

    def read(self, size: int | None = -1, /) -> bytes:
        return cast("bytes", next(self._pieces))  # None stands for "nothing yet", as with raw files
