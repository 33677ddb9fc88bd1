"""`python -m benchmarks.reliability`: tests of the service under adversarial load. PASS exits with 0, FAIL with 1."""

import sys
from collections.abc import Sequence

from benchmarks.commands import PAGE, run_command

COMMANDS = {
    "bombs": "requests that are small as bytes and large as work",
    "cost": "what the budget expects of requests, beside what they take",
    "fairness": "small requests beside clients that send large ones all the time",
    "gil": "readers and writers of pictures that keep everybody else waiting",
    "memory": "what the budget expects of large pictures, beside what they take",
    "line": "parts in a folder that is watched: from closing a file to its verdict",
    "overload": "five times more requests than it can do",
    "slow-clients": "connections held open in every slow way",
    "sigterm": "SIGTERM while everybody asks",
    "soak": "ten minutes of everything at once",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one test and return its exit status."""
    page = PAGE.with_name("reliability.md")
    return run_command("reliability", "Loads that want to break a service.", COMMANDS, words, page=page)


if __name__ == "__main__":
    sys.exit(main())
