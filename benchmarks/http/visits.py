"""One visit of wrk to a service, and the options that commands with visits share."""

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.commands import BenchmarkError
from benchmarks.peers.wrk import Request, load
from benchmarks.service import Service


class MachineError(BenchmarkError):
    """The machine lacks a requirement; the message names it."""


@dataclass(frozen=True)
class Visit:
    """Requests per second, and CPU microseconds per request of all processes of the service."""

    per_second: float
    cpu_us: float


def visit(service: Service, request: Request, *, clients: int, seconds: int, cores: Sequence[int]) -> Visit:
    """Send a request repeatedly from `clients` connections on some cores for some seconds, and measure the service.

    Raises:
        LoadError: An answer was not 2xx or did not come.
    """
    before = service.process.cpu_s
    seen = load(request, clients=clients, seconds=seconds, cores=cores)
    return Visit(seen.per_second, (service.process.cpu_s - before) / seen.requests * 1e6)


def two_cores() -> tuple[list[int], list[int]]:
    """Return the core for wrk and the core for the service.

    Raises:
        MachineError: wrk is missing, or there is one core only.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not shutil.which("wrk"):
        raise MachineError("wrk is missing; install it with: apt-get install wrk")
    if len(cores) < 2:
        raise MachineError("one core is not enough: one serves, another one sends")
    return cores[:1], cores[1:2]


def options(name: str, about: str, words: Sequence[str]) -> argparse.Namespace:
    """Parse the options `clients`, `rounds` and `seconds`."""
    return option_parser(name, about).parse_args(words)


def option_parser(name: str, about: str) -> argparse.ArgumentParser:
    """Return a parser of the options `clients`, `rounds` and `seconds`."""
    parser = argparse.ArgumentParser(
        f"python -m benchmarks.http {name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=positive, default=16, metavar="N", help="connections (default 16)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="of each (default 5)")
    parser.add_argument("--seconds", type=positive, default=3, metavar="S", help="of each visit (default 3)")
    return parser


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
