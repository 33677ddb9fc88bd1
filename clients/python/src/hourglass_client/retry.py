"""Whether to ask again, and when.

Every request of this client can be repeated: most change nothing, PUT replaces an item by the same one, and a DELETE
whose answer was lost may find nothing more to delete, which `connection.Attempts` takes for done.
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
        times: How often to ask again; 0 never does.
        first_s: The first pause where the service names none; each further one is twice as long, and a random part of
            it is left out, so that many clients do not come back at the same moment.
        most_s: The longest pause. A service that asks for more is asked no more.
    """

    times: int = 4
    first_s: float = 0.25
    most_s: float = 30.0

    def pause_s(self, attempt: int, status: int | None, headers: Mapping[str, str]) -> float | None:
        """Return seconds until the next attempt, or None to give up.

        Args:
            attempt: The one that failed, from 0.
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
