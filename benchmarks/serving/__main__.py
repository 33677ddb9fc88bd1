"""The service compared with others that do the same work, on one core, in turns.

    python -m benchmarks.serving                                  # digits, some 8 minutes after the first time
    python -m benchmarks.serving --rounds 1 --seconds 2           # a first look
    python -m benchmarks.serving --servers hourglass naive --clients 64
    python -m benchmarks.serving --work part                      # /anomaly of hazelnut, beside bare engines too
    python -m benchmarks.serving --work photo                     # /denoise of photo, beside bare engines

For digits the others are servers, each asked for the clean picture of a noisy digit; the model servers are also asked
for the scores of parts:

    hourglass   `python -m service` with one worker; the body is the picture
    naive       FastAPI: a `def` endpoint, UploadFile, Pillow, one inference per request
    litserve    LitServe  |
    bentoml     BentoML   | model servers, with their own batching on; see benchmarks/peers/
    mlserver    MLServer  |
    floor       uvicorn and an ASGI application that reads the body and sends the right answer without work

Beside parts and photographs there are bare loops without HTTP, a lower bound of the work: they read the file with the
fastest installed codec, run the same graph on one thread, and write the answer:

    onnxruntime   as in the service
    openvino      the same graph in OpenVINO

One core serves and another one sends. Machines are noisy, so each round visits all in turn, and the tables have medians
over the rounds. CPU time per request is that of a server with all its processes, and is valid even if the machine has
other load. The others are installed in virtual environments in build/bench, created at the first run from the pins in
benchmarks/peers. Digits need wrk (Debian and Ubuntu: apt-get install wrk).
"""

import argparse
import sys
from collections.abc import Sequence
from pkgutil import resolve_name

from benchmarks.commands import report

# Work to its function, its servers, and the numbers of clients that are worth asking with.
WORK = {
    "digit": ("digits:measure", ["hourglass", "naive", "litserve", "bentoml", "mlserver", "floor"], [1, 16, 64]),
    "part": (
        "beside_bare:measure_parts",
        ["hourglass", "litserve", "bentoml", "mlserver", "onnxruntime", "openvino"],
        [1, 4, 16],
    ),
    "photo": ("beside_bare:measure_photos", ["hourglass", "onnxruntime", "openvino"], [1, 4]),
}


def main(words: Sequence[str] | None = None) -> int:
    """Print the tables and return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    servers = sorted({name for _, names, _ in WORK.values() for name in names})
    parser.add_argument("--work", choices=WORK, default="digit", help="what is asked for (default digit)")
    parser.add_argument("--servers", nargs="+", choices=servers, help="which of those above (default: all)")
    parser.add_argument("--clients", nargs="+", type=int, metavar="N", help="how many (digits: 1 16 64; parts: 1 4 16)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="visits to each (default 5)")
    parser.add_argument("--seconds", type=int, default=4, metavar="S", help="of one visit (default 4)")
    parser.add_argument("--write", action="store_true", help="also between the markers of docs/performance.md")
    chosen = parser.parse_args(words)
    place, names, clients = WORK[chosen.work]
    if unknown := sorted(set(chosen.servers or []) - set(names)):
        parser.error(f"--work {chosen.work} has no server {', '.join(unknown)}; it has {', '.join(names)}")
    command = f"serving --work {chosen.work} --rounds {chosen.rounds} --seconds {chosen.seconds}"

    def measured() -> str:
        measure = resolve_name(f"benchmarks.serving.{place}")
        text: str = measure(
            chosen.servers or names, chosen.clients or clients, rounds=chosen.rounds, seconds=chosen.seconds
        )
        return text

    return report(measured, marker=f"serving-{chosen.work}" if chosen.write else None, command=command)


if __name__ == "__main__":
    sys.exit(main())
