"""Deadlines of requests by a clock that only the test moves."""

import asyncio
import math
from dataclasses import dataclass

import pytest
from starlette.requests import Request

from service.deadline import Deadline, check_deadline, current_deadline, set_deadline
from service.errors import DeadlineExceeded
from service.http.admission import TIMEOUT, Admission
from service.progress import advance


@dataclass
class Clock:
    """The time in seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_every_step_restarts_the_time() -> None:
    clock = Clock()
    deadline = Deadline(30, most_s=900, clock=clock)

    for _ in range(10):
        clock.now += 29
        deadline.renew()
        assert not deadline.is_over
    clock.now += 30

    assert deadline.is_over
    assert deadline.passed_s == 320


def test_steps_add_time_up_to_the_bound() -> None:
    clock = Clock()
    deadline = Deadline(30, most_s=60, clock=clock)

    for _ in range(3):
        clock.now += 19
        deadline.renew()

    assert deadline.end == 1060


def test_time_that_was_granted_is_not_cut_by_the_bound() -> None:
    deadline = Deadline(30, most_s=10, clock=Clock())

    deadline.allow(70)
    deadline.renew()

    assert deadline.end == 1100


def test_a_deadline_that_has_passed_is_not_renewed() -> None:
    clock = Clock()
    late, ended = (Deadline(30, most_s=900, clock=clock) for _ in range(2))

    clock.now += 29
    ended.pass_now()
    ended.renew()
    clock.now += 2
    late.renew()

    assert late.is_over
    assert ended.is_over


def test_work_without_a_request_has_no_deadline() -> None:
    check_deadline()

    assert current_deadline().end == math.inf


def test_a_request_that_makes_progress_outlives_one_that_makes_none() -> None:
    clock = Clock()
    admission = Admission(max_images=8, timeout_s=30, most_s=900, clock=clock)

    async def scenario() -> list[BaseException | None]:
        stepping, hanging = (asyncio.create_task(ask(admission, steps)) for steps in (20, 0))
        await asyncio.sleep(0)
        for _ in range(20):
            clock.now += 20
            admission.end_late()
            await asyncio.sleep(0)
        return list(await asyncio.gather(stepping, hanging, return_exceptions=True))

    done, late = asyncio.run(asyncio.wait_for(scenario(), 60))

    assert done is None
    assert isinstance(late, DeadlineExceeded)
    assert "no answer 40 s after the request" in str(late)


def test_a_job_has_its_own_time_and_steps_add_nothing() -> None:
    admission = Admission(max_images=8, timeout_s=30, most_s=900, clock=Clock())

    async def scenario() -> float:
        with admission.admit() as slot:
            slot.start(request({TIMEOUT: 3600.0}), 1)
            slot.allow(10)
            advance()
            return current_deadline().end

    assert asyncio.run(scenario()) == 4610


def test_a_thread_of_a_request_that_was_ended_stops_at_its_next_look() -> None:
    admission = Admission(max_images=8, timeout_s=30, clock=Clock())

    async def scenario() -> None:
        def work() -> None:
            while True:  # as a long loop does
                check_deadline()

        with admission.admit() as slot:
            slot.start(request(), 1)
            thread = asyncio.get_running_loop().create_task(asyncio.to_thread(work))
            admission.give_up()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.Event().wait()
            with pytest.raises(DeadlineExceeded):
                await thread

    asyncio.run(asyncio.wait_for(scenario(), 60))


async def ask(admission: Admission, steps: int) -> None:
    """A request of some steps, one in each turn of the loop; without steps it hangs."""
    with admission.admit() as slot:
        slot.start(request(), 1)
        for _ in range(steps):
            await asyncio.sleep(0)
            advance()
        if not steps:
            await asyncio.Event().wait()


def request(scope: dict[str, object] | None = None) -> Request:
    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", **(scope or {})}, receive)


def test_a_deadline_belongs_to_its_context() -> None:
    async def scenario() -> list[float]:
        async def one(seconds: float) -> float:
            set_deadline(Deadline(seconds, clock=Clock()))
            await asyncio.sleep(0)
            return current_deadline().end

        return list(await asyncio.gather(one(1), one(2)))

    assert asyncio.run(scenario()) == [1001, 1002]
