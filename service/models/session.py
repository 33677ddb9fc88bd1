"""Run ONNX graphs on NumPy arrays. The only file that imports onnxruntime."""

import contextlib
import io
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
from service.models.provider import CPU, Provider, cuda, free_cuda_bytes, is_out_of_memory

Device = Literal["auto", "cpu", "cuda"]
Floats = NDArray[np.float32]

_CUDA = "CUDAExecutionProvider"
_CORNER = 64  # side in pixels of a small image that every graph accepts
_ROWS = 2  # number of axes of latents
_ONLY_ERRORS = 3  # onnxruntime's severities: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph. A string or None in `shape` is a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class Session:
    """An ONNX graph, ready to run. It can be closed while idle; the next run opens it again.

    Args:
        graph: Bytes of the verified ONNX file.
        provider: What runs it, from `start_provider`.
        threads: Threads inside one operator. Operators run one after another.
        read_again: Reads and verifies the file again. Without it, the graph is never closed.

    Raises:
        ModelRejected: onnxruntime rejects the graph.
        ProviderUnavailable: The provider is offered but does not start, which onnxruntime only logs.
    """

    def __init__(
        self, graph: bytes, *, provider: Provider, threads: int, read_again: Callable[[], bytes] | None = None
    ) -> None:
        self._provider, self._threads, self._read_again = provider, threads, read_again
        self._opening = threading.Lock()
        self._used_at = time.monotonic()
        self._options, self._shrinks = ort.RunOptions(), False  # options of the run in progress, or of the last
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
        # Spinning threads take more CPU time than the work itself: `python -m benchmarks.micro threads`.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _ONLY_ERRORS
        # Four magic bytes would select onnxruntime's other format, but the file was checked as ONNX.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        providers = list(dict.fromkeys([provider.name, CPU.name]))  # the CPU runs what another one lacks
        all_options = [dict(provider.options), {}][: len(providers)]
        try:  # without its fallback, which would print a line and leave the GPU for good
            session = ort.InferenceSession(graph, options, providers, all_options, enable_fallback=False)
        except Exception as error:
            raise ModelRejected(f"onnxruntime rejects the graph: {reason_of(error, limit=300)}") from error
        if (real := session.get_providers()[0]) != provider.name:
            raise ProviderUnavailable(f"{provider.name} is offered but {real} came up")
        return session

    @property
    def is_open(self) -> bool:
        """Whether the graph is in memory."""
        return self._session is not None

    def close_if_idle(self, idle_s: float) -> bool:
        """Close the graph if it has not run for `idle_s` seconds; return whether it was closed.

        A run in progress is not affected.
        """
        if self._session is None or self._read_again is None or time.monotonic() - self._used_at < idle_s:
            return False
        self._session = None
        return True

    def run(self, *inputs: Floats, shrink: bool | None = None) -> tuple[Floats, ...]:
        """Run the graph and return its outputs, in the order of the graph.

        Args:
            inputs: Inputs, in the order of the graph.
            shrink: Release the memory of the run afterwards. By default, large runs do: they take hundreds of
                megabytes, and so long that allocating them again costs a CPU at most a twentieth.

        Raises:
            MemoryError: The run needs more memory than is available.
            RequestError: The graph was closed, and its file is gone or changed.
        """
        self._used_at = time.monotonic()
        session = self._session or self.open()
        provider = self._provider
        is_large = inputs[0].size >= provider.large
        shrinks = is_large if shrink is None else shrink
        if shrinks or self._shrinks or self._options.terminate:  # else those of the last run serve again
            self._options, self._shrinks = ort.RunOptions(), shrinks
            if shrinks:
                self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", provider.arenas)
        options = self._options
        try:
            if provider.binds:
                return self._run_bound(session, inputs, options)
            outputs: list[Floats] = session.run(
                self._output_names, dict(zip(self._input_names, inputs, strict=True)), options
            )
        except Exception as error:
            if is_large:
                self._shrink(inputs)
            if is_out_of_memory(error):
                raise MemoryError(f"a graph needs more memory than is available: {reason_of(error)}") from error
            raise
        return tuple(outputs)

    def _run_bound(
        self, session: ort.InferenceSession, inputs: Sequence[Floats], options: ort.RunOptions
    ) -> tuple[Floats, ...]:
        """Run on arrays of ours: the device copies from the inputs, and into outputs whose size the inputs tell."""
        binding = session.io_binding()
        size_by_axis: dict[int | str | None, int] = {}
        for tensor, x in zip(self.inputs, inputs, strict=True):
            binding.bind_cpu_input(tensor.name, np.ascontiguousarray(x))
            size_by_axis.update(zip(tensor.shape, x.shape, strict=True))
        names = size_by_axis.keys() - {None}
        outputs: list[Floats | None] = []
        for tensor in self.outputs:
            y: Floats | None = None
            if {axis for axis in tensor.shape if not isinstance(axis, int)} <= names:
                y = np.empty(
                    [axis if isinstance(axis, int) else size_by_axis[axis] for axis in tensor.shape], np.float32
                )
                binding.bind_output(tensor.name, "cpu", 0, np.float32, y.shape, y.ctypes.data)
            else:  # a size of its own: onnxruntime allocates
                binding.bind_output(tensor.name)
            outputs.append(y)
        session.run_with_iobinding(binding, options)
        made = binding.get_outputs()
        return tuple(made[i].numpy() if y is None else y for i, y in enumerate(outputs))

    def _shrink(self, inputs: Sequence[Floats]) -> None:
        """Release the memory of a failed run: only a run that succeeds can do so."""
        corner = [x[:1, ..., :_CORNER, :_CORNER] if x.ndim > _ROWS else x[:1] for x in inputs]
        with contextlib.suppress(Exception):
            self.run(*corner, shrink=True)

    def open(self) -> ort.InferenceSession:
        """Open the graph if it was closed.

        Raises:
            RequestError: The file is gone or changed.
        """
        with self._opening:
            if self._session is None:
                assert self._read_again is not None  # noqa: S101  a graph without it is never closed
                self._session = self._start(self._read_again())
            return self._session

    def stop(self) -> None:
        """End the run in progress in another thread before its next operator."""
        self._options.terminate = True


# x (N,) -> y (N,), float32, opset 13: one Identity operator.
_IDENTITY = bytes.fromhex(
    "08083a390a100a017812017922084964656e746974791201695a100a0178120b0a09080112050a0312016e62100a0179120b"
    "0a09080112050a0312016e42040a00100d"
)


def start_provider(device: Device, *, max_gpu_bytes: int = 0) -> Provider:
    """Return the provider for `device`, after a test run on it.

    Args:
        device: The setting; `auto` takes the CPU if CUDA does not start.
        max_gpu_bytes: Most memory of the GPU for a graph; 0 for what is free now.

    Raises:
        ProviderUnavailable: CUDA was requested but is not installed or does not start.
    """
    offered = ort.get_available_providers()
    if device == "cpu" or (device == "auto" and _CUDA not in offered):
        return CPU
    if _CUDA not in offered:
        raise ProviderUnavailable(
            f"device=cuda, but this onnxruntime offers {', '.join(offered)}. Replace it: "
            "`pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'` (never both), or set "
            "device=cpu"
        )
    try:
        return _start_cuda(max_gpu_bytes)
    except ProviderUnavailable as error:
        if device == "cuda":
            raise
        log.warning("device=auto runs on the CPU: %s", error)
        return CPU


def _start_cuda(max_gpu_bytes: int) -> Provider:
    with contextlib.redirect_stdout(io.StringIO()) as printed:  # which libraries it does not find
        ort.preload_dlls()  # those of NVIDIA's Python packages, which the system does not look for
    provider = cuda(max_gpu_bytes or free_cuda_bytes())
    try:
        Session(_IDENTITY, provider=provider, threads=1).run(np.zeros(1, np.float32), shrink=True)
    except Exception as error:
        missing = " ".join(printed.getvalue().split("\n")[:1])
        cure = "check the driver and the CUDA and cuDNN libraries, or set device=cpu"
        raise ProviderUnavailable("; ".join(filter(None, [reason_of(error, limit=300), missing, cure]))) from error
    if provider.memory_bytes is None:
        log.warning("the memory of the GPU is not known; batches are as large as on a CPU (setting max_batch_pixels)")
    return provider
