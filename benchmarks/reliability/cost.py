"""CPU seconds that the budget expects of requests, compared with measured ones.

    python -m benchmarks.reliability [--write] cost

Each request is sent twice: the first lets the service measure the cost of the graph, the second is measured. Expected
is the gauge `hourglass_expected_seconds` during the request, and taken is the CPU time of the process meanwhile.
"""

import re
import threading
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.commands import selected, selecting
from benchmarks.page import table
from benchmarks.reliability.bodies import Body, flat_png, noise_png, npy
from benchmarks.reliability.watch import ask, cpu_s
from benchmarks.service import Service

# name -> path and body. Noise is the most that a reader and a writer have to do, a flat picture the least.
REQUESTS = {
    "`photo`, 1 megapixel, flat": ("/denoise?model=photo", Body(flat_png(1000, 1000, 3))),
    "`photo`, 4 megapixels, flat": ("/denoise?model=photo", Body(flat_png(2000, 2000, 3))),
    "`photo-grey`, 1 megapixel of noise": (
        "/denoise?model=photo-grey",
        Body(npy((1, 1000, 1000), np.random.default_rng(0).random((1000, 1000), np.float32).tobytes())),
    ),
    "`photo-x2`, a quarter of a megapixel": ("/enhance?model=photo-x2", Body(flat_png(500, 500, 1))),
    "`photo-compressed`, 4 megapixels": ("/compress", Body(flat_png(2000, 2000, 3))),
    "`hazelnut`, 25 megapixels": ("/anomaly?model=hazelnut", Body(flat_png(5000, 5000, 3))),
    "`digits`, 25 megapixels": ("/denoise?model=digits", Body(flat_png(5000, 5000, 1))),
    "`digits`, 25 megapixels of noise": ("/denoise?model=digits", Body(noise_png(5000))),
}
_GAUGE = re.compile(rb"^hourglass_expected_seconds (\S+)$", re.MULTILINE)


def row_of(name: str, service: Service) -> list[str]:
    """Send a request twice, and return the row of the second one: expected and taken time."""
    path, body = REQUESTS[name]
    pid = service.process.popen.pid
    ask(service.port, "POST", path, body.content, body.headers)
    before_s, expected, statuses = cpu_s(pid), [0.0], []

    def send() -> None:
        statuses.append(ask(service.port, "POST", path, body.content, body.headers)[0])

    thread = threading.Thread(target=send)
    thread.start()
    while thread.is_alive():
        found = _GAUGE.search(ask(service.port, "GET", "/metrics", None, {})[1])
        expected.append(float(found[1]) if found else 0.0)
        time.sleep(0.02 * len(expected))
    taken_s = cpu_s(pid) - before_s
    return [name, f"{statuses[0]}", f"{max(expected):.2f} s", f"{taken_s:.2f} s", f"{max(expected) / taken_s:.2f}"]


def measure(words: Sequence[str]) -> str:
    """Return the table of all requests, or of the named ones."""
    parser = selecting("reliability cost", __doc__, what="requests")
    parts = parser.parse_args(words).parts
    with TemporaryDirectory() as folder:
        flags = ("--collections-url", f"sqlite:///{folder}/items.db", "--request-timeout-s", "100")
        with Service(*flags) as service:
            names = selected(REQUESTS, parts)
            rows = [row_of(name, service) for name in names]
    return table(["request", "answer", "expected", "taken", "expected / taken"], rows)
