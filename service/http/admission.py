"""Admission control: a queue bounded in images, a deadline for every request, and draining."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from service.deadline import Deadline, set_deadline
from service.errors import DeadlineExceeded, Draining, QueueFull

TIMEOUT = "hourglass.timeout_s"  # where a request's scope holds its time, if it is not that of the settings
SLOT = "hourglass.slot"  # where a request's scope holds its place in the queue

# One look at all requests now and then, instead of timers for each: most answers are there before the first look.
_LOOK_EVERY_S = 0.25


class Slot:
    """The place of one request in the queue, for the length of a `with` block."""

    def __init__(self, admission: "Admission") -> None:
        self.images = 1
        self.deadline: Deadline | None = None  # once its body is there, which has a time of its own
        self._admission = admission
        self._task = asyncio.current_task()
        self._cancellations = self._task.cancelling() if self._task else 0
        self._reason: Exception | None = None
        self._request: Request | None = None
        self._listener: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._admission.enter(self)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        """Give the place back.

        Raises:
            Exception: The reason why the request was ended from outside.
        """
        self._admission.leave(self)
        if self._listener is not None:
            self._listener.cancel()
        # Break the cycles that would keep the body until the next garbage collection: the request's scope holds this
        # place, and the listener's last error holds its frame.
        self._request = self._listener = None
        if self._reason is not None and self._task is not None:
            is_ours = self._task.uncancel() <= self._cancellations  # else someone else wants the task to end, too
            if is_ours and isinstance(error, asyncio.CancelledError):
                reason, self._reason = self._reason, None
                try:
                    raise reason from error
                finally:  # no circle of exception and frame, which would keep the request's pictures
                    del reason, error

    def start(self, request: Request, images: int) -> None:
        """Count all images of a request once its body is read, start its deadline, and watch for a disconnect.

        Raises:
            QueueFull: They do not all fit.
        """
        if images != self.images:
            self._admission.take(self, images)
        self._request = request
        admission, timeout_s = self._admission, request.scope.get(TIMEOUT)
        self.deadline = (
            Deadline(admission.timeout_s, most_s=admission.most_s, clock=admission.clock)
            if timeout_s is None
            else Deadline(timeout_s, clock=admission.clock)
        )
        set_deadline(self.deadline)

    def allow(self, seconds: float) -> None:
        """Give a started request this much more time, as its work is expected to take long."""
        if self.deadline is not None:
            self.deadline.allow(seconds)

    def end(self, reason: Exception) -> None:
        """Fail the request with `reason`, drop its jobs that have not started, and end its threads."""
        if self.deadline is not None:
            self.deadline.pass_now()
        if self._reason is None and self._task is not None:
            self._reason = reason
            self._task.cancel()

    def listen(self) -> None:
        """End the request from now on when its client disconnects."""
        if self._listener is None and self._request is not None:
            self._listener = asyncio.create_task(self._listen(self._request))

    async def _listen(self, request: Request) -> None:
        # The whole body has been read, so all that can still come is the end of the connection.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.end(ClientDisconnect())


class Admission:
    """The queue in front of all models, bounded in images.

    A request takes a place before its body is read, and is refused there if the queue is full. How many images a body
    has is not known then, so a place counts one image; the others (files of a form, rows of an array, latents) are
    counted once the body is there, and refused as a whole if they do not fit. A request that finds the queue empty
    always fits, however many images it has: `max_images` of the settings bounds it.

    Args:
        max_images: Most images admitted and not yet answered.
        timeout_s: From the end of a request's body, and from each step of its work, to its answer.
        most_s: From the end of a request's body to its answer, however many steps its work has.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        *,
        max_images: int,
        timeout_s: float,
        most_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout_s, self.most_s, self.clock = timeout_s, most_s, clock
        self.images = 0
        self.max_images = max_images
        self.is_draining = False
        self._slots: set[Slot] = set()
        self._next_look: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return not self._slots

    def admit(self) -> Slot:
        """Return a place in the queue, for a `with` block inside the request's own task.

        Raises:
            Draining: The service is stopping.
            QueueFull: The queue is full.
            DeadlineExceeded: The deadline that `Slot.start` has set has passed.
            ClientDisconnect: The client left before that.
        """
        self.refuse_if_draining()
        if self.images >= self.max_images:
            raise self._full(1)
        return Slot(self)

    def enter(self, slot: Slot) -> None:
        """Add a slot, and start the periodic check of deadlines."""
        self._slots.add(slot)
        self.images += 1
        if self._next_look is None:
            self._look_later()

    def leave(self, slot: Slot) -> None:
        """Remove a slot."""
        self._slots.discard(slot)
        self.images -= slot.images

    def refuse_if_draining(self) -> None:
        """Raise `Draining` if the service is shutting down.

        Raises:
            Draining: The service is shutting down.
        """
        if self.is_draining:
            raise _draining("the service is stopping and accepts no new requests")

    def take(self, slot: Slot, images: int) -> None:
        """Count `images` for a slot.

        Raises:
            QueueFull: The memory budget is used by other requests.
        """
        others = self.images - slot.images
        if others and others + images > self.max_images:
            raise self._full(images)
        self.images, slot.images = others + images, images

    def start_draining(self) -> None:
        """Refuse every new request from now on; accepted ones are still answered."""
        self.is_draining = True

    def give_up(self) -> None:
        """End all requests in progress with a 503."""
        for slot in tuple(self._slots):
            slot.end(_draining("the service had to stop before this request was answered (setting grace_s)"))

    def _look_later(self) -> None:
        interval_s = min(_LOOK_EVERY_S, self.timeout_s / 2)
        self._next_look = asyncio.get_running_loop().call_later(interval_s, self._look)

    def _look(self) -> None:
        self._next_look = None
        self.end_late()
        for slot in self._slots:
            if slot.deadline is not None:
                slot.listen()
        if self._slots:
            self._look_later()

    def end_late(self) -> None:
        """End all requests whose deadline has passed. Called several times a second."""
        for slot in tuple(self._slots):
            if slot.deadline is not None and slot.deadline.is_over:
                slot.end(
                    DeadlineExceeded(
                        f"no answer {slot.deadline.passed_s:.3g} s after the request (settings request_timeout_s and "
                        "max_request_s); its queued work was dropped; a job has more time (header "
                        "Prefer: respond-async)"
                    )
                )

    def _full(self, images: int) -> QueueFull:
        return QueueFull(
            f"{self.images} images are waiting and {images} more do not fit, the limit is {self.max_images} "
            "(setting max_queue_images)",
            headers={"Retry-After": "1"},
        )


def slot_of(request: HTTPConnection) -> Slot:
    """Return the place in the queue of an admitted request."""
    slot: Slot = request.scope[SLOT]
    return slot


def _draining(detail: str) -> Draining:
    return Draining(detail, headers={"Retry-After": "1", "Connection": "close"})
