"""Number and timing of retries.

Every request of this client can be repeated: most change nothing, PUT replaces an item by the same one, and a retried
DELETE may answer 404, which `connection.Attempts` takes for success.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_REPEATABLE = {429, 503}


@dataclass(frozen=True)
class Retry:
    """When and how often a client retries.

    Args:
        times: Maximum number of retries; 0 turns them off.
        first_s: First pause if the answer has no `Retry-After`. Each further pause is twice as long. All are shortened
            by random jitter, so that many clients do not retry at the same time.
        most_s: Longest pause. If `Retry-After` is longer, the client gives up.
    """

    times: int = 4
    first_s: float = 0.25
    most_s: float = 30.0

    def pause_s(self, attempt: int, status: int | None, headers: Mapping[str, str]) -> float | None:
        """Return seconds until the next attempt, or None to give up.

        Args:
            attempt: Index of the failed attempt, from 0.
            status: Status of the answer; None if there was none.
            headers: Headers of the answer, in lower case.
        """
        if attempt >= self.times or (status is not None and status not in _REPEATABLE):
            return None
        wanted = _retry_after_s(headers.get("retry-after"))
        if wanted is not None:
            return wanted if wanted <= self.most_s else None
        return min(self.most_s, self.first_s * (1 << attempt)) * random.uniform(0.5, 1.0)  # noqa: S311  no secret


def _retry_after_s(value: str | None) -> float | None:
    """Parse `Retry-After`, a number of seconds or a date, to seconds."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        wait_s: float = parsedate_to_datetime(value).timestamp() - time.time()
        return max(0.0, wait_s)
    except ValueError:
        return None
