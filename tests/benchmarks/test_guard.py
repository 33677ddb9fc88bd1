"""The guard's jobs run, its counts are committed, and its table says what changed."""

import json

import pytest

from benchmarks.guard.__main__ import COUNTS, DUMP, JOBS, compared
from benchmarks.guard.jobs import jobs

COMMITTED = json.loads(COUNTS.read_text("utf-8"))["instructions"]


@pytest.mark.parametrize("name", COMMITTED)
def test_a_job_can_be_done_again_and_again(name: str) -> None:
    job = jobs()[name]

    assert job() is not None
    assert job() is not None


def test_every_job_has_a_committed_count() -> None:
    assert list(jobs()) == list(COMMITTED)
    assert len(COMMITTED) == JOBS


def test_only_what_changed_by_more_than_three_hundredths_is_named() -> None:
    before = {"same": 1_000_000, "costlier": 1_000_000, "cheaper": 1_000_000, "dropped": 5}

    text = compared(before, {"same": 1_029_000, "costlier": 1_031_000, "cheaper": 900_000, "added": 2_500_000})

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    assert rows == [
        ["same", "1.000", "1.029", "+2.9%", ""],
        ["costlier", "1.000", "1.031", "+3.1%", "MORE"],
        ["cheaper", "1.000", "0.900", "-10.0%", "less"],
        ["dropped", "0.000", "-", "-", "gone"],
        ["added", "-", "2.500", "-", "new"],
    ]


def test_a_dump_of_callgrind_gives_the_job_and_its_instructions() -> None:
    dump = (
        "version: 1\ndesc: Trigger: Client Request: range coder\n\nevents: Ir\n\nfn=(1) main\n0 5\n\ntotals: 6901234\n"
    )

    found = DUMP.search(dump)

    assert found is not None
    assert found.groups() == ("range coder", "6901234")
