"""The door to the models inside one event loop, where every step can be held."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from starlette.requests import ClientDisconnect, Request

from service.errors import DeadlineExceeded, Draining, QueueFull
from service.http.admission import Admission
from service.models.batcher import Batcher
from service.models.job import Outputs
from service.models.session import Floats


class Job:
    """One row that is its answer."""

    is_small = False

    def prepare(self) -> Floats:
        return np.ones((1, 1), np.float32)

    def finish(self, outputs: Outputs) -> float:
        return float(outputs[0][0, 0])


class Rig:
    """An admission before a batcher whose graph waits for `go_on`."""

    def __init__(self, *, timeout_s: float = 600.0) -> None:
        self.admission = Admission(max_images=8, timeout_s=timeout_s)
        self.started, self.go_on = threading.Event(), threading.Event()
        self.batches: list[int] = []
        self._batcher = Batcher(self._run, max_batch=8, max_pixels=1000, name="held")

    def _run(self, x: Floats) -> Outputs:
        self.batches.append(len(x))
        self.started.set()
        assert self.go_on.wait(60)
        return (x,)

    async def ask(self, gone: asyncio.Event | None = None) -> float:
        """One request; its client leaves when `gone` is set."""

        async def receive() -> dict[str, str]:
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        with self.admission.admit() as slot:
            slot.start(Request({"type": "http"}, receive), 1)
            (result,) = await self._batcher.submit([Job()])
            assert isinstance(result, float)
            return result

    async def ask_until_running(self) -> asyncio.Task[float]:
        """A request that is in the graph now."""
        task = asyncio.create_task(self.ask())
        await asyncio.to_thread(self.started.wait, 60)
        return task


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(scenario(), 60)

    asyncio.run(limited())


def test_queued_work_of_a_client_that_left_never_runs() -> None:
    async def scenario() -> None:
        rig, gone = Rig(), asyncio.Event()
        running = await rig.ask_until_running()
        queued = asyncio.create_task(rig.ask(gone))
        await asyncio.sleep(0)
        gone.set()

        with pytest.raises(ClientDisconnect):
            await queued
        assert rig.admission.images == 1
        rig.go_on.set()
        assert await running == 1.0
        assert await rig.ask() == 1.0
        assert rig.batches == [1, 1]
        assert rig.admission.is_idle

    run(scenario)


def test_queued_work_past_its_deadline_never_runs() -> None:
    async def scenario() -> None:
        rig = Rig(timeout_s=0.05)
        running = await rig.ask_until_running()
        queued = asyncio.create_task(rig.ask())

        for task in (running, queued):
            with pytest.raises(DeadlineExceeded, match=r"no answer .* s after .*settings request_timeout_s"):
                await task
        assert (rig.admission.images, rig.admission.is_idle) == (0, True)
        rig.go_on.set()
        rig.admission.timeout_s = 600.0
        assert await rig.ask() == 1.0
        assert rig.batches == [1, 1]

    run(scenario)


def test_giving_up_ends_everything_inside_with_503() -> None:
    async def scenario() -> None:
        rig = Rig()
        tasks = [await rig.ask_until_running(), asyncio.create_task(rig.ask())]
        await asyncio.sleep(0)
        rig.admission.start_draining()

        with pytest.raises(Draining, match="accepts no new requests"):
            await rig.ask()
        rig.admission.give_up()

        for task in tasks:
            with pytest.raises(Draining, match="had to stop"):
                await task
        assert rig.admission.is_idle
        rig.go_on.set()

    run(scenario)


def test_a_request_that_is_ended_twice_or_before_its_start_fails_once() -> None:
    async def scenario() -> None:
        admission, gone = Admission(max_images=8, timeout_s=60), asyncio.Event()

        async def receive() -> dict[str, str]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def ask(body_is_there: asyncio.Event) -> None:
            with admission.admit() as slot:
                await body_is_there.wait()
                slot.start(Request({"type": "http"}, receive), 1)
                await asyncio.Event().wait()

        reading, read = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(ask(reading)), asyncio.create_task(ask(read))]
        read.set()
        await asyncio.sleep(0.1)  # longer than the service waits before it listens for the end of the connection
        reading.set()
        for _ in range(3):
            admission.give_up()
            await asyncio.sleep(0)
        gone.set()

        for task in tasks:
            with pytest.raises(Draining):
                await task
        assert (admission.images, admission.is_idle) == (0, True)

    run(scenario)


def test_a_failing_request_gives_its_place_back() -> None:
    async def scenario() -> None:
        admission = Admission(max_images=1, timeout_s=60)

        async def fail() -> None:
            with admission.admit():
                with pytest.raises(QueueFull):
                    admission.admit().__enter__()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()

        assert admission.is_idle
        assert admission.images == 0

    run(scenario)
