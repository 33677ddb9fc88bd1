"""One budget for all requests of a worker: the bytes that they hold, and the seconds of CPU that they will need.

    the body's length -> the file's head -> the answer's length -> sent
    [ -------------------- bytes ------------------------------------ ]
                         [ seconds ------- ]

A request reserves before it allocates, and is refused if that does not fit. A single request always fits, since other
limits bound it. It counts as half of the budget at most, to leave room for others; two such do not fit together.
"""

import asyncio
import math
import time
from collections import defaultdict
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.types import Scope

from service.errors import QueueFull
from service.memory import release_unused

CLIENT = "hourglass.client"  # where a request's scope holds who has sent it, if a key says so
_HOLD = "hourglass.hold"

_LOOK_EVERY_S = 0.1  # for room
_DEAR_PART = 1 / 4  # of the budget: whatever takes more shares one half of it with others that do
_SHARE = 1 / 2  # of the budget, for one client among others
_LONGEST_RETRY_S = 30
_LARGE_BYTES = 64 * 2**20  # a request that held as many gives memory back that the C library would keep
# Of bytes and of seconds, 128 KiB and 2 ms by default: a request of less is not counted, as max_queue_images bounds how
# many there are, and counting costs more than a small model does.
_SMALL_BYTES_PART, _SMALL_SECONDS_PART = 1 / 4096, 1 / 15_000


@dataclass
class Load:
    """Bytes and CPU seconds of some requests."""

    bytes: int = 0
    seconds: float = 0.0


class Budget:
    """The bytes and CPU seconds that all requests of a worker may hold.

    A large request leaves room for small ones, and a busy client for other clients.

    Args:
        max_bytes: Limit of bodies, decoded pictures and unsent answers.
        max_seconds: Limit of the expected CPU time of queued requests.
    """

    def __init__(self, *, max_bytes: int, max_seconds: float) -> None:
        self.limit = Load(max_bytes, max_seconds)
        self._small = Load(int(max_bytes * _SMALL_BYTES_PART), max_seconds * _SMALL_SECONDS_PART)
        self.total = Load()
        self._dear = Load()
        self._by_client: defaultdict[str, Load] = defaultdict(Load)

    def change(self, hold: "Hold", new: Load) -> None:
        """Change the share that a request holds.

        Raises:
            QueueFull: The budget is used by other requests.
        """
        # One that takes more than a half is the only one of its kind, and must not keep the small ones out.
        new = Load(min(new.bytes, int(self.limit.bytes * _SHARE)), min(new.seconds, self.limit.seconds * _SHARE))
        if not self._fits(hold, new, "bytes"):
            raise self._full(
                f"requests hold {self.total.bytes >> 20} MiB and {new.bytes >> 20} MiB more do not fit, the limit is "
                f"{self.limit.bytes >> 20} MiB (setting max_memory_bytes)"
            )
        if not self._fits(hold, new, "seconds"):
            raise self._full(
                f"there is work for {self.total.seconds:.1f} s and {new.seconds:.1f} s more do not fit, the limit is "
                f"{self.limit.seconds:g} s (setting request_timeout_s)"
            )
        self.replace(hold, new)

    def is_small(self, size: int, seconds: float) -> bool:
        """Return whether a request is too small to be counted."""
        return size <= self._small.bytes and seconds <= self._small.seconds

    def replace(self, hold: "Hold", new: Load) -> None:
        """Set the share without checking the limits."""
        self._count(hold, -1)
        hold.load = new
        self._count(hold, 1)

    def _fits(self, hold: "Hold", new: Load, unit: str) -> bool:
        old, more, limit = getattr(hold.load, unit), getattr(new, unit), getattr(self.limit, unit)
        others = getattr(self.total, unit) - old
        if more <= old or others <= 0:
            return True
        own = getattr(self._by_client[hold.client], unit) - old
        dear = getattr(self._dear, unit) - (old if old > limit * _DEAR_PART else 0)
        is_dear, has_others = more > limit * _DEAR_PART, others > own
        return bool(
            others + more <= limit
            and (not is_dear or dear <= 0 or dear + more <= limit * _SHARE)
            and (not has_others or own <= 0 or own + more <= limit * _SHARE)
        )

    def _count(self, hold: "Hold", sign: int) -> None:
        loads = [self.total, self._by_client[hold.client]]
        for load in loads:
            load.bytes += sign * hold.load.bytes
            load.seconds += sign * hold.load.seconds
        if hold.load.bytes > self.limit.bytes * _DEAR_PART:
            self._dear.bytes += sign * hold.load.bytes
        if hold.load.seconds > self.limit.seconds * _DEAR_PART:
            self._dear.seconds += sign * hold.load.seconds
        if sign < 0 and not loads[1].bytes and loads[1].seconds < 1e-9:
            del self._by_client[hold.client]
        if not self._by_client:
            self.total, self._dear = Load(), Load()

    def _full(self, detail: str) -> QueueFull:
        wait_s = min(max(1, math.ceil(self.total.seconds)), _LONGEST_RETRY_S)
        return QueueFull(detail, headers={"Retry-After": str(wait_s)})


_NOTHING = Load()  # the share of most requests, which never changes: a new share replaces it


class Hold:
    """The share of the budget that one request holds until its answer is sent."""

    __slots__ = ("budget", "client", "is_large", "load")

    def __init__(self, budget: Budget, client: str) -> None:
        self.budget, self.client = budget, client
        self.load = _NOTHING
        self.is_large = False

    def reserve(self, *, bytes: int | None = None, seconds: float | None = None) -> None:  # noqa: A002  the unit
        """Change the share; omitted values stay unchanged.

        Raises:
            QueueFull: The budget is used by other requests.
        """
        load = self.load
        new_bytes, new_seconds = load.bytes if bytes is None else bytes, load.seconds if seconds is None else seconds
        if self.is_uncounted(new_bytes, new_seconds):
            return
        if (new := Load(new_bytes, new_seconds)) != load:
            self.budget.change(self, new)
            self.is_large = self.is_large or new_bytes >= _LARGE_BYTES

    def is_uncounted(self, size: int, seconds: float) -> bool:
        """Return whether a request that holds nothing stays too small to be counted."""
        return not (self.load.bytes or self.load.seconds) and self.budget.is_small(size, seconds)

    async def wait_for_room(self, *, bytes: int, seconds: float, at_most_s: float) -> None:  # noqa: A002  the unit
        """Wait until there is room, then change the share.

        Raises:
            QueueFull: There was no room in that time.
        """
        end = time.monotonic() + at_most_s
        while True:
            try:
                return self.reserve(bytes=bytes, seconds=seconds)
            except QueueFull:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_LOOK_EVERY_S)

    def answer(self, size: int) -> None:
        """Reduce the share to the bytes of the answer."""
        self.budget.replace(self, Load(size, 0.0))

    def free(self) -> None:
        """Release the whole share."""
        if self.load.bytes or self.load.seconds:
            self.budget.replace(self, _NOTHING)
        if self.is_large:
            asyncio.get_running_loop().run_in_executor(None, release_unused)


def begin(scope: Scope, budget: Budget) -> Hold:
    """Attach an empty hold to a request."""
    hold = Hold(budget, "")
    scope[_HOLD] = hold
    return hold


def hold_of(request: HTTPConnection) -> Hold:
    """Return the hold of a request."""
    hold: Hold = request.scope[_HOLD]
    if not hold.client:  # looked up only where something is held: most requests hold nothing
        address = request.scope.get("client")
        hold.client = request.scope.get(CLIENT) or (address[0] if address else "unknown")
    return hold
