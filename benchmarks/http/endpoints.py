"""Compare the endpoints and formats of the service.

    python -m benchmarks.http endpoints
    python -m benchmarks.http endpoints --clients 1 --rounds 9

With the shipped model `digits`: the same noisy digit as a raw PNG, as a form, and as an NPY array to /denoise, and as a
PNG to /encode and /anomaly, where all of it is anomalous; and a clean digit without anomalies to /anomaly. One worker
runs on one core, wrk on another; every round measures all. The table has medians over the rounds.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from benchmarks.http.visits import Visit, options, two_cores, visit
from benchmarks.page import table
from benchmarks.peers.catalogue import form
from benchmarks.samples import CLEAN, NOISY, npy_of
from benchmarks.service import Service

FORM = form("file", NOISY)
# Title to path, body and content type.
WAYS = {
    "/denoise, PNG": ("/denoise?model=digits", NOISY, "image/png"),
    "/denoise, form": ("/denoise?model=digits", FORM.content, FORM.content_type),
    "/denoise, NPY": ("/denoise?model=digits", npy_of(NOISY), "application/x-npy"),
    "/encode, PNG": ("/encode", NOISY, "image/png"),
    "/anomaly, PNG": ("/anomaly", NOISY, "image/png"),
    "/anomaly, clean": ("/anomaly", CLEAN, "image/png"),
}


def measure(words: Sequence[str]) -> str:
    """Measure all and return the table."""
    chosen = options("endpoints", __doc__ or "", words)
    client_core, server_core = two_cores()
    seen: dict[str, list[Visit]] = {name: [] for name in WAYS}
    with TemporaryDirectory(prefix="hourglass-bench-") as folder, Service(cores=server_core) as service:
        requests = {name: service.request(Path(folder), *way) for name, way in WAYS.items()}
        for _ in tqdm(range(chosen.rounds), desc="ways", unit="round", leave=False):
            for name, request in requests.items():
                found = visit(service, request, clients=chosen.clients, seconds=chosen.seconds, cores=client_core)
                seen[name].append(found)
    cpu_us = {name: statistics.median(v.cpu_us for v in visits) for name, visits in seen.items()}
    of_first = cpu_us[next(iter(WAYS))]
    rows = [
        [name, f"{statistics.median(v.per_second for v in visits):.0f}", f"{cpu_us[name]:.0f}",
         f"{cpu_us[name] / of_first:.2f}"]
        for name, visits in seen.items()
    ]  # fmt: skip
    head = [f"{chosen.clients} clients", "requests/s", "CPU us per request", "of a PNG's CPU"]
    return table(head, rows)
