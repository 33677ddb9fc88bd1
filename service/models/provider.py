"""Execution providers of onnxruntime: their options, and the memory of the device behind them."""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# 64 digits, or one image of 256x256. A core is no faster with more of these: two hazelnuts in one inference took 47 ms
# each and one 31 ms, since large memory is released after a run and allocated again.
_CPU_BATCH_PIXELS = 2**16
_DEVICE_BATCH_PIXELS = 2**22  # 64 images of 256x256, the largest batch by default
# On a CPU, photo-x2 takes 840 bytes for each pixel, hazelnut 560, photo 170. The rest is for the workspace of cuDNN.
_BYTES_A_PIXEL = 2048
_MEMORY_SHARE = 1 / 2  # for one inference, as other graphs hold memory, too


@dataclass(frozen=True)
class Provider:
    """What runs the operators of a graph.

    Attributes:
        name: Name in onnxruntime.
        options: Options of the provider by name.
        arenas: Its memory arenas, as the run option `memory.enable_memory_arena_shrinkage` takes them.
        large: Input values of a run that releases its memory afterwards.
        binds: Whether inputs and outputs are bound to the caller's arrays: a copy less, for 25 microseconds.
        memory_bytes: Memory available to a graph; None on the CPU, and if the driver does not say.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    arenas: str = "cpu:0"
    large: int = 2**18  # a run takes tens of milliseconds, and a hundred times their memory
    binds: bool = False
    memory_bytes: int | None = None

    def batch_pixels(self, chosen: int) -> int:
        """Return the most pixels of one inference of several images.

        Args:
            chosen: The setting `max_batch_pixels`; 0 leaves it to the device.
        """
        if chosen or self.memory_bytes is None:
            return chosen or _CPU_BATCH_PIXELS
        return min(_DEVICE_BATCH_PIXELS, max(1, int(self.memory_bytes * _MEMORY_SHARE / _BYTES_A_PIXEL)))


CPU = Provider("CPUExecutionProvider")


def cuda(memory_bytes: int | None) -> Provider:
    """Return the provider for the first CUDA device, which the variable `CUDA_VISIBLE_DEVICES` chooses.

    Args:
        memory_bytes: Most memory that the arena of a graph may take; None for no limit.
    """
    options = {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",  # the other doubles what is held
        "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE tries all algorithms for every new size of image or batch
        "use_tf32": "0",  # 10 bits of mantissa would move scores and thresholds, and golden samples would differ
    }
    if memory_bytes is not None:
        options["gpu_mem_limit"] = str(memory_bytes)
    # A megapixel may take a gigabyte. Smaller runs keep theirs, since a card allocates slowly.
    return Provider(
        "CUDAExecutionProvider", options, arenas="cpu:0;gpu:0", large=2**20, binds=True, memory_bytes=memory_bytes
    )


def is_out_of_memory(error: Exception) -> bool:
    """Return whether onnxruntime says that memory is missing. It has no error class for that."""
    text = str(error).lower()
    # Its arenas "failed to allocate", CUDA is "out of memory", cuDNN and cuBLAS say STATUS_ALLOC_FAILED.
    return "alloc" in text or "out of memory" in text


def free_cuda_bytes(load: Callable[[str], Any] = ctypes.CDLL) -> int | None:  # Any: a library's functions
    """Return the free memory of the first CUDA device; None if the driver does not say.

    Args:
        load: Loads a shared library.
    """
    try:
        driver = load("libcuda.so.1")
    except OSError:  # no driver, or not Linux
        return None
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    ):
        return None
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return None
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return None if failed else free.value
