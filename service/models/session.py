"""The only file that knows onnxruntime: a graph's bytes become a function on NumPy arrays."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import ModelRejected, ProviderUnavailable, reason_of

Device = Literal["auto", "cpu", "cuda"]
Floats = NDArray[np.float32]

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_LARGE = 2**18  # numbers of an input: a run takes tens of milliseconds, and a hundred times its memory
_CORNER = 64  # pixels a side of a small picture that every graph takes
_ROWS = 2  # axes of latents
_ONLY_ERRORS = 3  # onnxruntime's severities: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tensor:
    """One real input or output of a graph; a string or None in `shape` is a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class Session:
    """A graph that runs. It may be closed while idle, and is opened again by the next run.

    Args:
        graph: The bytes of the ONNX file, so that what was verified is what runs.
        provider: From `start_provider`.
        threads: Threads inside one operator. Operators run one after another.
        read_again: Returns those bytes once more, verified. Without it the graph is never closed.

    Raises:
        ModelRejected: onnxruntime does not take the graph.
        ProviderUnavailable: The provider is offered but does not come up. onnxruntime itself would only log that.
    """

    def __init__(
        self, graph: bytes, *, provider: str, threads: int, read_again: Callable[[], bytes] | None = None
    ) -> None:
        self._provider, self._threads, self._read_again = provider, threads, read_again
        self._opening = threading.Lock()
        self._used_at = time.monotonic()
        self._options = ort.RunOptions()  # of the run in progress
        session = self._session = self._start(graph)
        self.inputs = tuple(Tensor(t.name, t.type, tuple(t.shape)) for t in session.get_inputs())
        self.outputs = tuple(Tensor(t.name, t.type, tuple(t.shape)) for t in session.get_outputs())
        self._input_names = [t.name for t in self.inputs]
        self._output_names = [t.name for t in self.outputs]

    def _start(self, graph: bytes) -> ort.InferenceSession:
        provider = self._provider
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that wait by spinning take more CPU time than the work itself: `python -m benchmarks.micro threads`.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _ONLY_ERRORS
        # onnxruntime would take its other format by four magic bytes, and what was checked is the ONNX reading.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        providers = [provider] if provider == _CPU else [provider, _CPU]
        try:
            session = ort.InferenceSession(graph, options, providers=providers)
        except Exception as error:
            raise ModelRejected(f"onnxruntime rejects the graph: {reason_of(error, limit=300)}") from error
        if (real := session.get_providers()[0]) != provider:
            raise ProviderUnavailable(
                f"{provider} is offered but {real} came up; check the CUDA and cuDNN libraries and the driver, "
                "or set device=cpu"
            )
        return session

    @property
    def is_open(self) -> bool:
        """Whether the graph is in memory."""
        return self._session is not None

    def close_if_idle(self, idle_s: float) -> bool:
        """Close the graph if it has not run for `idle_s` seconds; return whether that was done now.

        A run that has begun keeps what it needs.
        """
        if self._session is None or self._read_again is None or time.monotonic() - self._used_at < idle_s:
            return False
        self._session = None
        return True

    def run(self, *inputs: Floats, shrink: bool | None = None) -> tuple[Floats, ...]:
        """Return the graph's outputs, in order, for its inputs, in order.

        Args:
            inputs: As the graph declares them.
            shrink: Give the memory that the run took back afterwards. By default large runs do, which take hundreds of
                megabytes and so long that asking for them again costs a twentieth at most.

        Raises:
            MemoryError: There is not enough.
            RequestError: The graph was closed, and its file is no longer what it was.
        """
        self._used_at = time.monotonic()
        session = self._session or self.open()
        is_large = inputs[0].size >= _LARGE
        self._options = options = ort.RunOptions()
        if (is_large if shrink is None else shrink) and self._provider == _CPU:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        try:
            outputs: list[Floats] = session.run(
                self._output_names, dict(zip(self._input_names, inputs, strict=True)), options
            )
        except Exception as error:
            if is_large:
                self._shrink(inputs)
            if "alloc" in str(error).lower():  # onnxruntime has no error of its own for it
                raise MemoryError(f"a graph needs more memory than there is: {reason_of(error)}") from error
            raise
        return tuple(outputs)

    def _shrink(self, inputs: Sequence[Floats]) -> None:
        """Give back the memory of a run that failed, which only a run that succeeds can do."""
        corner = [x[:1, ..., :_CORNER, :_CORNER] if x.ndim > _ROWS else x[:1] for x in inputs]
        with contextlib.suppress(Exception):
            self.run(*corner, shrink=True)

    def open(self) -> ort.InferenceSession:
        """Open the graph if it was closed.

        Raises:
            RequestError: Its file is no longer what it was.
        """
        with self._opening:
            if self._session is None:
                assert self._read_again is not None  # noqa: S101  else it would not have been closed
                self._session = self._start(self._read_again())
            return self._session

    def stop(self) -> None:
        """Let the run in progress, in another thread, fail before its next operator."""
        self._options.terminate = True


# x (N,) -> y (N,), float32, opset 13: the smallest graph there is.
_IDENTITY = bytes.fromhex(
    "08083a390a100a017812017922084964656e746974791201695a100a0178120b0a09080112050a0312016e62100a0179120b"
    "0a09080112050a0312016e42040a00100d"
)


def start_provider(device: Device) -> str:
    """Return the provider to use for `device`, after running something on it.

    Raises:
        ProviderUnavailable: CUDA was asked for and is not there, or does not start.
    """
    provider = _choose_provider(device)
    try:
        Session(_IDENTITY, provider=provider, threads=1).run(np.zeros(1, np.float32))
    except ProviderUnavailable as error:
        if device == "cuda":
            raise
        log.warning("device=auto runs on the CPU: %s", error)
        return _CPU
    return provider


def _choose_provider(device: Device) -> str:
    offered = ort.get_available_providers()
    if device == "cpu" or (device == "auto" and _CUDA not in offered):
        return _CPU
    if _CUDA not in offered:
        raise ProviderUnavailable(
            f"device=cuda, but this onnxruntime offers {', '.join(offered)}. Replace it: "
            "`pip uninstall -y onnxruntime && pip install onnxruntime-gpu` (never both), or set device=cpu"
        )
    return _CUDA
