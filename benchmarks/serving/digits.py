"""Hourglass compared with a naive endpoint, three model servers and a server without work, over the same graph.

wrk sends the PNG of a noisy digit in a closed loop and gets the PNG of the clean one. All servers are started once; one
of them runs at a time, while the others are paused. Before timing, each server's picture is compared with a direct run
of the graph; later, an answer that is not 2xx aborts the benchmark.
"""

import contextlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from benchmarks.http.visits import two_cores
from benchmarks.page import table
from benchmarks.peers.catalogue import SERVERS, Files
from benchmarks.peers.environment import InstallError, environment_python, pinned
from benchmarks.peers.graph import Graph
from benchmarks.peers.subject import Subject, Visit, serving
from benchmarks.samples import NOISY
from benchmarks.service import MODELS, newest

WARM_UP_S = 6  # not counted; BentoML learns from its requests how long to wait for more, anew every 5 s
PEERS = [name for name, server in SERVERS.items() if server.is_peer]
COLUMNS = ("requests/s", "range", "p50, ms", "p99, ms", "CPU us per request")
Visits = dict[tuple[int, str], list[Visit]]  # (clients, server) -> one per round


def measure(names: Sequence[str], clients: Sequence[int], *, rounds: int, seconds: int) -> str:
    """Visit the servers in turns and return tables of medians.

    Raises:
        MachineError: wrk is missing, or there is one core only.
        ServingError: A server does not start or answers wrongly.
        LoadError: An answer was not 2xx.
    """
    client_core, server_core = two_cores()
    pythons, missing = interpreters(names)
    png = NOISY
    visits: Visits = {}
    with TemporaryDirectory(prefix="hourglass-bench-") as folder, contextlib.ExitStack() as stack:
        files = Files(newest("digits") / "denoise.onnx", MODELS, Path(folder) / "answer.png")
        (expected,) = Graph(str(files.graph)).answer([png])
        files.answer.write_bytes(expected)
        subjects: dict[str, Subject] = {}
        for name, python in tqdm(pythons.items(), desc="starting", leave=False):
            server = serving(name, SERVERS[name], python, files, png=png, expected=expected, cores=server_core)
            subjects[name] = stack.enter_context(server)
        with tqdm(total=len(clients) * rounds * len(subjects), unit="visit") as bar:
            for count in clients:
                for subject in subjects.values():
                    subject.visit(clients=count, seconds=WARM_UP_S, cores=client_core)
                for number in range(rounds):
                    for name, subject in subjects.items():
                        bar.set_description(f"{count} clients, round {number + 1}, {name}")
                        visit = subject.visit(clients=count, seconds=seconds, cores=client_core)
                        visits.setdefault((count, name), []).append(visit)
                        bar.update()
    return f"{laid_out(visits, missing)}\n\nBeside it: {versions(names)}."


def interpreters(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the Python interpreter of each server, and for missing ones the reason."""
    pythons, missing = {}, {}
    for name in names:
        environment = SERVERS[name].environment
        try:
            pythons[name] = str(environment_python(environment)) if environment else sys.executable
        except InstallError as error:
            missing[name] = str(error)
    return pythons, missing


def medians(visits: Sequence[Visit]) -> Visit:
    """Return the medians of each column."""
    columns = zip(*(asdict(visit).values() for visit in visits), strict=True)
    return Visit(*(statistics.median(column) for column in columns))


def laid_out(visits: Visits, missing: dict[str, str]) -> str:
    """Return a table, with ratios for each number of clients."""
    middle = {key: medians(rounds) for key, rounds in visits.items()}
    parts = []
    for count in dict.fromkeys(clients for clients, _ in middle):
        row = {name: visit for (clients, name), visit in middle.items() if clients == count}
        lines = []
        for name, visit in row.items():
            rates = [one.per_second for one in visits[count, name]]
            lines.append([
                name, f"{visit.per_second:.0f}", f"{min(rates):.0f}-{max(rates):.0f}", f"{visit.p50_ms:.2f}",
                f"{visit.p99_ms:.2f}", f"{visit.cpu_us:.0f}",
            ])  # fmt: skip
        parts.append(table([f"{count} client(s)", *COLUMNS], lines))
        parts += [
            f"Hourglass / {name}: {ratio['per_second']:.2f} in requests/s, {ratio['cpu']:.2f} by CPU."
            for name, ratio in ratios(row).items()
        ]
    parts += [f"{name} cannot be installed: {why}" for name, why in missing.items()]
    return "\n\n".join(parts)


def ratios(row: dict[str, Visit]) -> dict[str, dict[str, float]]:
    """Return the ratios of Hourglass to each kind of server, in requests per second and in CPU time."""
    if "hourglass" not in row:
        return {}
    mine = row["hourglass"]
    others = {"naive": ["naive"], "best peer": PEERS, "floor": ["floor"]}
    found = {}
    for kind, names in others.items():
        present = [name for name in names if name in row]
        if present:
            best = max(present, key=lambda name: row[name].per_second)
            thriftiest = min(row[name].cpu_us for name in present)
            label = f"{kind} ({best})" if kind == "best peer" else kind
            found[label] = {
                "per_second": mine.per_second / row[best].per_second,
                "cpu": thriftiest / mine.cpu_us,
            }
    return found


def versions(names: Sequence[str]) -> str:
    """Return the versions of the other servers."""
    environments = {name: SERVERS[name] for name in names}
    return ", ".join(
        f"{server.shows} {pinned(server.environment)[server.shows]}"
        for server in environments.values()
        if server.environment and server.shows
    )
