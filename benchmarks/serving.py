"""Hourglass beside a naive endpoint, three model servers and a server that does nothing, over the same graph.

    python -m benchmarks.serving                                  # everything, some 8 minutes after the first time
    python -m benchmarks.serving --rounds 1 --seconds 2           # a first look
    python -m benchmarks.serving --servers hourglass naive --clients 64
    python -m benchmarks.serving --servers hourglass --clients 1 2 4 8 16 32 64 128 256

Each client sends the PNG of a noisy digit and waits for the PNG of the clean one, again and again. The servers:

    hourglass   `python -m service` with one worker; the body is the picture
    naive       FastAPI: a `def` endpoint, UploadFile, Pillow, one inference per request
    litserve    LitServe  |
    bentoml     BentoML   | model servers, with their own batching on; see benchmarks/peers/
    mlserver    MLServer  |
    floor       uvicorn and an ASGI application that reads the body and sends the right answer without work

One core serves and another one sends. wrk does that (Debian and Ubuntu: apt-get install wrk). All servers are started
once and only one of them runs at a time, the others are paused. Before timing, each one's picture is compared with a
direct run of the graph; later, an answer that is not 2xx ends everything. Machines are noisy: so each round visits all
servers in turn, and the table has medians over the rounds. The CPU time per request is that of a server with all its
processes, and holds even where something else keeps the machine busy.

The other servers live in virtual environments in build/bench, made at the first run from the pins in benchmarks/peers.
"""

import argparse
import contextlib
import json
import signal
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from benchmarks.http.visits import MachineError, positive, two_cores
from benchmarks.machine import machine
from benchmarks.peers.catalogue import SERVERS, Files
from benchmarks.peers.environment import InstallError, environment_python, pinned
from benchmarks.peers.picture import denoise, open_session
from benchmarks.peers.subject import ServingError, Subject, Visit, serving
from benchmarks.peers.wrk import LoadError
from benchmarks.samples import NOISY
from benchmarks.service import MODELS

WARM_UP_S = 6  # not counted; BentoML learns from its requests how long to wait for more, anew every 5 s
PEERS = [name for name, server in SERVERS.items() if server.is_peer]
Visits = dict[tuple[int, str], list[Visit]]  # (clients, server) -> one per round


def newest_graph(models_dir: Path) -> Path:
    """The graph that `digits` denoises with."""
    versions = [folder for folder in (models_dir / "digits").iterdir() if (folder / "manifest.json").exists()]
    return max(versions, key=lambda folder: int(folder.name)) / "denoise.onnx"


def measure(
    names: Sequence[str], clients: Sequence[int], *, rounds: int, seconds: int
) -> tuple[Visits, dict[str, str]]:
    """The visits, and why servers are missing in them.

    Raises:
        MachineError: No wrk, or one core only.
        ServingError: A server does not start or is wrong.
        LoadError: An answer was not 2xx.
    """
    client_core, server_core = two_cores()
    pythons, missing = interpreters(names)
    png = NOISY
    visits: Visits = {}
    with TemporaryDirectory(prefix="hourglass-bench-") as folder, contextlib.ExitStack() as stack:
        files = Files(newest_graph(MODELS), MODELS, Path(folder) / "answer.png")
        (expected,) = denoise(open_session(str(files.graph)), [png])
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
    return visits, missing


def interpreters(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Server to its Python; and server to the reason why it has none."""
    pythons, missing = {}, {}
    for name in names:
        environment = SERVERS[name].environment
        try:
            pythons[name] = str(environment_python(environment)) if environment else sys.executable
        except InstallError as error:
            missing[name] = str(error)
    return pythons, missing


def medians(visits: Sequence[Visit]) -> Visit:
    """Of each column."""
    columns = zip(*(asdict(visit).values() for visit in visits), strict=True)
    return Visit(*(statistics.median(column) for column in columns))


def print_table(visits: Visits, missing: dict[str, str]) -> None:
    """One block per number of clients."""
    middle = {key: medians(rounds) for key, rounds in visits.items()}
    for count in dict.fromkeys(clients for clients, _ in middle):
        row = {name: visit for (clients, name), visit in middle.items() if clients == count}
        print(f"\n{count} client{'s' if count > 1 else ''}")
        print(f"  {'':10} {'requests/s':>10} {'range':>15} {'p50 ms':>8} {'p99 ms':>8} {'CPU us/request':>15}")
        for name, visit in row.items():
            rates = [one.per_second for one in visits[count, name]]
            print(
                f"  {name:10} {visit.per_second:10.0f} {f'{min(rates):.0f}-{max(rates):.0f}':>15} "
                f"{visit.p50_ms:8.2f} {visit.p99_ms:8.2f} {visit.cpu_us:15.0f}"
            )
        for name, ratio in ratios(row).items():
            print(f"  hourglass / {name}: {ratio['per_second']:.2f} in requests/s, {ratio['cpu']:.2f} by CPU")
    for name, why in missing.items():
        print(f"\n{name}: not installable: {why}")


def ratios(row: dict[str, Visit]) -> dict[str, dict[str, float]]:
    """How many times as fast Hourglass is as each kind of other, in requests per second and in CPU time."""
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


def ran_on() -> dict[str, str]:
    """The machine, and the versions of the other servers."""
    others = {
        name: f"{server.shows} {pinned(server.environment)[server.shows]}"
        for name, server in SERVERS.items()
        if server.environment and server.shows
    }
    return machine() | others


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS), help="which (default all)")
    parser.add_argument(
        "--clients", nargs="+", type=positive, default=[1, 16, 64], metavar="N", help="how many (default 1 16 64)"
    )
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="per number of clients (default 5)")
    parser.add_argument("--seconds", type=positive, default=4, metavar="S", help="of one visit (default 4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the machine and every visit there, too")
    return parser.parse_args()


def main() -> int:
    """The exit code: 0, 1 if something is missing or wrong, 130 after Ctrl-C."""
    chosen = options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers, as Ctrl-C does
    about = ran_on()
    try:
        visits, missing = measure(chosen.servers, chosen.clients, rounds=chosen.rounds, seconds=chosen.seconds)
    except (MachineError, ServingError, LoadError) as error:
        print(f"benchmarks.serving: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print_table(visits, missing)
    if chosen.json:
        rows = [{"clients": c, "server": name, **asdict(v)} for (c, name), vs in visits.items() for v in vs]
        chosen.json.write_text(json.dumps({"machine": about, "missing": missing, "visits": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
