"""CPU cost of a second thread in an inference, with spinning and with sleeping threads.

    python -m benchmarks.micro threads

The anomaly graph of the shipped hazelnut runs on one image, then waits 50 ms, as between two requests. CPU time is that
of all threads; the row of one thread is the work itself. Threads keep spinning for a while after the work.
"""

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.micro.case import parser_of, take_turns
from benchmarks.page import table
from benchmarks.service import newest

REST_S = 0.05
WAYS = {"1 thread": (1, "0"), "2 threads that sleep": (2, "0"), "2 threads that spin": (2, "1")}


def measure(words: Sequence[str]) -> str:
    """Measure and lay out the table."""
    parser_of("threads", __doc__).parse_args(words)
    x = np.random.default_rng(0).random((1, 3, 256, 256), np.float32)
    cells = []
    for way, (threads, spinning) in WAYS.items():  # not in turns: one that spins would take from the next
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        session = ort.InferenceSession(newest("hazelnut") / "anomaly.onnx", options, providers=["CPUExecutionProvider"])
        cells.append(f"{take_turns({way: partial(run_and_rest, session, x)}, title=way)[way] * 1e3:.1f}")
        del session
    return table(["graph, ms of CPU", *WAYS], [["hazelnut", *cells]])


def run_and_rest(session: ort.InferenceSession, x: NDArray[np.float32]) -> None:
    """Run one inference, then wait a while."""
    session.run(None, {"x": x})
    time.sleep(REST_S)
