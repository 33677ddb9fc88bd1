"""The path of a GPU, run on the CPU: options, bound arrays, batches by memory, and a CUDA that does not start."""

import asyncio
import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks.service import newest
from service.errors import ProviderUnavailable
from service.models.batcher import Batcher
from service.models.job import Outputs
from service.models.provider import CPU, cuda, free_cuda_bytes, is_out_of_memory
from service.models.session import Floats, Session, start_provider

GIB = 2**30
BOUND = dataclasses.replace(CPU, binds=True)
CUDA = "CUDAExecutionProvider"


class Recorded(ort.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
    """A session that runs on the CPU, says that it runs on CUDA, and keeps what it was asked for."""

    asked: dict[str, Any]

    def __init__(
        self, graph: bytes, options: object, providers: list[str], all_options: object, **more: object
    ) -> None:
        type(self).asked = dict(zip(providers, all_options, strict=True)) | more  # type: ignore[call-overload]
        super().__init__(graph, options, [CPU.name])

    def get_providers(self) -> list[str]:
        return [CUDA, CPU.name]

    def run_with_iobinding(self, binding: object, options: ort.RunOptions) -> None:
        type(self).asked["shrink"] = options.get_run_config_entry("memory.enable_memory_arena_shrinkage")
        super().run_with_iobinding(binding)  # this build has no arena of a GPU to release


class Fallen(Recorded):
    """A session as onnxruntime makes it where a library of CUDA is missing: on the CPU, without an error."""

    def get_providers(self) -> list[str]:
        return [CPU.name]


@pytest.fixture
def offers_cuda(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU.name])
    monkeypatch.setattr("service.models.session.free_cuda_bytes", lambda: 8 * GIB)
    return monkeypatch


def test_cuda_starts_with_its_options_and_never_falls_back(offers_cuda: pytest.MonkeyPatch) -> None:
    offers_cuda.setattr(ort, "InferenceSession", Recorded)

    provider = start_provider("auto")

    assert provider.name == CUDA
    assert Recorded.asked == {
        CUDA: {
            "device_id": "0",
            "gpu_mem_limit": str(8 * GIB),
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
        },
        CPU.name: {},
        "enable_fallback": False,
        "shrink": "cpu:0;gpu:0",
    }


def test_the_memory_of_the_gpu_can_be_limited(offers_cuda: pytest.MonkeyPatch) -> None:
    offers_cuda.setattr(ort, "InferenceSession", Recorded)

    provider = start_provider("cuda", max_gpu_bytes=GIB)

    assert provider.memory_bytes == GIB
    assert provider.options["gpu_mem_limit"] == str(GIB)


def test_cuda_that_does_not_come_up_is_said_once_and_the_cpu_serves(
    offers_cuda: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offers_cuda.setattr(ort, "InferenceSession", Fallen)
    offers_cuda.setattr(ort, "preload_dlls", lambda: sys.stdout.write("Failed to load libcudnn.so.9: no such file\n…"))

    with caplog.at_level(logging.WARNING):
        provider = start_provider("auto")

    assert provider == CPU
    assert [record.message for record in caplog.records] == [
        "device=auto runs on the CPU: CUDAExecutionProvider is offered but CPUExecutionProvider came up; Failed to "
        "load libcudnn.so.9: no such file; check the driver and the CUDA and cuDNN libraries, or set device=cpu"
    ]


def test_cuda_that_was_asked_for_and_does_not_come_up_refuses_to_start(offers_cuda: pytest.MonkeyPatch) -> None:
    offers_cuda.setattr(ort, "InferenceSession", Fallen)

    with pytest.raises(
        ProviderUnavailable, match=r"CPUExecutionProvider came up; check the driver .*or set device=cpu"
    ):
        start_provider("cuda")


def test_a_gpu_whose_memory_is_not_known_gets_the_batches_of_a_cpu(
    offers_cuda: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offers_cuda.setattr(ort, "InferenceSession", Recorded)
    offers_cuda.setattr("service.models.session.free_cuda_bytes", lambda: None)

    with caplog.at_level(logging.WARNING):
        provider = start_provider("cuda")

    assert "gpu_mem_limit" not in provider.options
    assert provider.batch_pixels(0) == CPU.batch_pixels(0)
    assert "the memory of the GPU is not known" in caplog.text


@pytest.mark.parametrize(
    ("memory_bytes", "pixels"), [(None, 2**16), (GIB, 2**18), (4 * GIB, 2**20), (80 * GIB, 2**22), (0, 1)]
)
def test_batches_grow_with_the_memory_up_to_a_bound(memory_bytes: int | None, pixels: int) -> None:
    assert cuda(memory_bytes).batch_pixels(0) == pixels


def test_a_core_gets_64_digits_or_one_picture_of_256_pixels_at_a_time() -> None:
    pixels = CPU.batch_pixels(0)

    assert 64 * 28 * 28 <= pixels < 2 * 256 * 256


def test_a_setting_of_batches_is_taken_as_it_is() -> None:
    assert cuda(GIB).batch_pixels(10_000_000) == CPU.batch_pixels(10_000_000) == 10_000_000


@pytest.mark.parametrize(
    ("model", "task", "shape"),
    [
        ("digits", "anomaly", (3, 1, 28, 28)),  # two outputs
        ("photo", "denoise", (2, 3, 24, 40)),  # two inputs
        ("photo-x2", "enhance", (2, 1, 16, 24)),  # an output of a size of its own
    ],
)
def test_bound_arrays_give_the_same_outputs(model: str, task: str, shape: tuple[int, ...]) -> None:
    graph = Path(newest(model) / f"{task}.onnx").read_bytes()
    plain, bound = (Session(graph, provider=provider, threads=1) for provider in (CPU, BOUND))
    x = np.random.default_rng(0).random((*shape[:-1], 2 * shape[-1]), np.float32)[..., ::2]  # not contiguous
    inputs = (x, np.full(len(x), 10, np.float32))[: len(plain.inputs)]

    for expected, found in zip(plain.run(*inputs), bound.run(*inputs), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_bound_outputs_are_not_overwritten_by_the_next_run() -> None:
    session = Session((newest("digits") / "denoise.onnx").read_bytes(), provider=BOUND, threads=1)

    (first,) = session.run(np.zeros((1, 1, 28, 28), np.float32))
    kept = first.copy()
    session.run(np.ones((1, 1, 28, 28), np.float32))

    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("message", "is_memory"),
    [
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 939524096", True),
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size)", True),
        ("CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA failure 700: an illegal memory access was encountered", False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_failures(message: str, is_memory: bool) -> None:
    assert is_out_of_memory(RuntimeError(message)) is is_memory


@dataclasses.dataclass
class Row:
    """A row that is its answer."""

    value: float
    is_small = False

    def prepare(self) -> Floats:
        return np.full((1, 1), self.value, np.float32)

    def finish(self, outputs: Outputs) -> float:
        return float(outputs[0][0, 0])


def test_a_batch_that_does_not_fit_into_memory_is_halved_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []

    def run(x: Floats) -> Outputs:
        sizes.append(len(x))
        if len(x) > 3:
            raise MemoryError
        return (x,)

    async def scenario() -> list[list[object]]:
        batcher = Batcher(run, max_batch=8, max_pixels=1000, name="small/1 encode")
        return [list(await batcher.submit([Row(float(i)) for i in range(8)])) for _ in range(2)]

    with caplog.at_level(logging.WARNING):
        first, second = asyncio.run(scenario())

    assert first == second == [float(i) for i in range(8)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]  # the second time it knows
    assert "small/1 encode: 8 images do not fit into memory at once; the next 100 runs have at most 4" in caplog.text


def test_batches_are_whole_again_after_some_that_fit() -> None:
    sizes: list[int] = []

    def run(x: Floats) -> Outputs:
        sizes.append(len(x))
        if len(sizes) == 1:
            raise MemoryError
        return (x,)

    async def scenario() -> None:
        batcher = Batcher(run, max_batch=8, max_pixels=1000, name="small/1 encode")
        for _ in range(51):
            await batcher.submit([Row(float(i)) for i in range(8)])

    asyncio.run(scenario())

    assert sizes == [8, *[4] * 100, 8]


def test_a_single_image_that_does_not_fit_fails() -> None:
    def run(_: Floats) -> Outputs:
        raise MemoryError("a graph needs more memory than is available")

    async def scenario() -> None:
        batcher = Batcher(run, max_batch=8, max_pixels=1000, name="small/1 encode")
        await batcher.submit([Row(0.0), Row(1.0)])

    with pytest.raises(MemoryError):
        asyncio.run(scenario())


class Driver:
    """CUDA's driver library: functions that return 0, or the status given for them."""

    def __init__(self, **status: int) -> None:
        self.called: list[str] = []
        self._status = status

    def __getattr__(self, name: str) -> Callable[..., int]:
        def function(*arguments: object) -> int:
            self.called.append(name)
            if name == "cuMemGetInfo_v2":
                for reference, value in zip(arguments, (6 * GIB, 8 * GIB), strict=True):
                    reference._obj.value = value  # type: ignore[attr-defined]  # what ctypes.byref refers to
            return self._status.get(name, 0)

        return function


def test_the_driver_says_how_much_memory_is_free() -> None:
    driver = Driver()

    assert free_cuda_bytes(lambda _: driver) == 6 * GIB
    assert driver.called[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


@pytest.mark.parametrize(
    "name", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"]
)
def test_a_driver_that_fails_says_nothing(name: str) -> None:
    driver = Driver(**{name: 100})

    assert free_cuda_bytes(lambda _: driver) is None
    assert driver.called.count("cuDevicePrimaryCtxRetain") - (
        name == "cuDevicePrimaryCtxRetain"
    ) == driver.called.count("cuDevicePrimaryCtxRelease_v2")


def test_a_machine_without_a_driver_says_nothing() -> None:
    def load(_: str) -> object:
        raise OSError("libcuda.so.1: cannot open shared object file")

    assert free_cuda_bytes(load) is None
