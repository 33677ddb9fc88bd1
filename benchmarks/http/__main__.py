"""`python -m benchmarks.http`: requests to a running service, counted and timed from outside."""

import sys
from collections.abc import Sequence

from benchmarks.commands import run_command

COMMANDS = {
    "endpoints": "ways in and out beside each other: PNG, form, NPY; denoise, encode, anomaly",
    "before": "small images, beside an older checkout",
    "workers": "requests per second of one worker and of two",
    "replica": "what a replica costs and does: CPU, memory, requests per second",
    "replicas": "two and four replicas behind HAProxy: balancing, retries, saturation",
    "quotas": "half a core, one and two of CPU time, with one worker and with two (needs root)",
    "ray": "an echo behind Ray Serve and behind uvicorn alone (installs Ray)",
    "large": "memory and CPU time of photographs of 1 to 100 megapixels",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one benchmark and return its exit status."""
    return run_command("http", "Requests to a running service, from outside.", COMMANDS, words)


if __name__ == "__main__":
    sys.exit(main())
