"""Who may come in: a queue bounded in images, a deadline for every request, and the end of both when stopping."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from service.errors import DeadlineExceeded, Draining, QueueFull

# Most answers are there sooner. Only a request that takes longer costs a task that listens for its client leaving.
_WATCH_AFTER_S = 0.25


class Slot:
    """One request's place in the queue."""

    def __init__(self, admission: "Admission", scope: asyncio.Timeout) -> None:
        self.images = 1
        self.reason: Exception | None = None
        self._admission = admission
        self._scope = scope
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None

    def start(self, request: Request, images: int) -> None:
        """Counts all images of a request whose body is there; the deadline runs, and a client that leaves is noticed.

        Raises:
            QueueFull: They do not all fit.
            Draining: The service has given up waiting in the same moment.
        """
        if self.reason is not None:
            raise self.reason
        self._admission.take(self, images)
        loop = asyncio.get_running_loop()
        self._scope.reschedule(loop.time() + self._admission.timeout_s)
        self._timer = loop.call_later(_WATCH_AFTER_S, self._start_watch, request)

    def end(self, reason: Exception) -> None:
        """Stops waiting: the request fails with `reason`, and its jobs that have not started are dropped."""
        if not self._scope.expired():
            self.reason = reason
            self._scope.reschedule(0)

    def close(self) -> None:
        """Listens to the client no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _start_watch(self, request: Request) -> None:
        self._watch = asyncio.create_task(self._listen(request))

    async def _listen(self, request: Request) -> None:
        # The whole body has been read, so all that can still come is the end of the connection.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.end(ClientDisconnect())


class Admission:
    """The one door to the models, the same for single and batch requests.

    A request takes a place before its body is read, and is refused there if the queue is full. How many images a body
    has is not known then, so a place counts one image; the others (files of a form, rows of an array, latents) are
    counted once the body is there, and refused as a whole if they do not fit. A request that finds the queue empty
    always fits, however many images it has: `max_images` of the settings bounds it.

    Args:
        max_images: Most images admitted and not yet answered.
        timeout_s: From the end of a request's body to its answer.
    """

    def __init__(self, *, max_images: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.images = 0
        self.is_draining = False
        self._max_images = max_images
        self._slots: set[Slot] = set()

    @property
    def is_idle(self) -> bool:
        """Nobody waits for an answer."""
        return not self._slots

    @contextlib.asynccontextmanager
    async def admit(self) -> AsyncIterator[Slot]:
        """A place in the queue, until the block ends.

        Raises:
            Draining: The service is stopping.
            QueueFull: It has all the images it can take.
            DeadlineExceeded: The block took longer than `timeout_s` after `Slot.start`.
            ClientDisconnect: The client left before that.
        """
        self.refuse_if_draining()
        if self.images >= self._max_images:
            raise self._full(1)
        scope = asyncio.timeout(None)
        slot = Slot(self, scope)
        self._slots.add(slot)
        self.images += 1
        try:
            async with scope:
                yield slot
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise slot.reason or DeadlineExceeded(
                f"the answer was not there {self.timeout_s:g} s after the request (setting request_timeout_s); "
                "what was queued of it has been dropped"
            ) from error
        finally:
            slot.close()
            self._slots.discard(slot)
            self.images -= slot.images

    def refuse_if_draining(self) -> None:
        """Nothing, while the service is there for new requests.

        Raises:
            Draining: It is stopping.
        """
        if self.is_draining:
            raise _draining("the service is stopping and takes no new requests")

    def take(self, slot: Slot, images: int) -> None:
        """Counts `images` for a slot.

        Raises:
            QueueFull: They do not fit beside those of other requests.
        """
        others = self.images - slot.images
        if others and others + images > self._max_images:
            raise self._full(images)
        self.images, slot.images = others + images, images

    def start_draining(self) -> None:
        """From now on every new request is refused; those inside are answered."""
        self.is_draining = True

    def give_up(self) -> None:
        """Ends the requests that are still inside, each with its 503."""
        for slot in tuple(self._slots):
            slot.end(_draining("the service had to stop before this request was answered (setting grace_s)"))

    def _full(self, images: int) -> QueueFull:
        return QueueFull(
            f"{self.images} images are waiting and {images} more do not fit, the limit is {self._max_images} "
            "(setting max_queue_images)",
            headers={"Retry-After": "1"},
        )


def _draining(detail: str) -> Draining:
    return Draining(detail, headers={"Retry-After": "1", "Connection": "close"})
