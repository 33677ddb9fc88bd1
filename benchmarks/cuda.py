"""The graphs of models on a GPU, beside the CPU: a table to send us, as we have no card to measure on.

    python -m benchmarks.cuda                        # the shipped models; needs onnxruntime-gpu and a card
    python -m benchmarks.cuda --device cpu           # the same path without a card, to try it
    python -m benchmarks.cuda --models photo hazelnut --side 1024

Each graph runs as in the service: with its options, bound to arrays of ours. Inputs are random pixels: images of the
size of the model, or of `--side` where a model takes any size. Batches double until the memory of the card is used, or
a run takes longer than `--seconds`. A time is the median of runs after a first one, and includes copying to the card
and back. The difference is the largest one between an output and that of the CPU for the same image: a few millionths
are rounding.
"""

import argparse
import dataclasses
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.commands import BenchmarkError, report
from benchmarks.machine import summary
from service.errors import ProviderUnavailable
from service.models.directory import list_versions
from service.models.loading import read_manifest
from service.models.provider import CPU
from service.models.session import Floats, Session, Tensor, start_provider

LEVEL = 10.0  # noise level of an image, in 0-255 units
IMAGE, ROWS = 4, 2  # number of axes
MOST_RUNS, LARGEST_BATCH = 20, 256


@dataclass(frozen=True)
class Row:
    """What one graph took.

    Attributes:
        graph: Model, version and task.
        shape: Shape of one row of the first input.
        cpu_s: Seconds of one image on the CPU.
        one_s: Seconds of one image on the device.
        batch: The batch that took the least time for each image.
        image_s: Seconds of an image in that batch.
        difference: Largest difference between the outputs of the device and of the CPU.
        end: Why no larger batch was run.
    """

    graph: str
    shape: str
    cpu_s: float
    one_s: float
    batch: int
    image_s: float
    difference: float
    end: str

    def __str__(self) -> str:
        return (
            f"| {self.graph} | {self.shape} | {self.cpu_s * 1000:.2f} | {self.one_s * 1000:.2f} | {self.batch} "
            f"| {self.image_s * 1000:.2f} | {self.cpu_s / self.image_s:.1f} | {self.difference:.1e} | {self.end} |"
        )


def main(words: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cuda", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what runs beside the CPU")
    parser.add_argument("--models-dir", type=Path, default=Path("models"), metavar="DIR", help="(default models)")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="which models (default: all)")
    parser.add_argument("--side", type=int, default=512, metavar="PIXELS", help="of images of any size (default 512)")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="for each batch (default 1)")
    chosen = parser.parse_args(words)
    return report(lambda: measure(chosen), marker=None, command="cuda")


def measure(chosen: argparse.Namespace) -> str:
    """Return the machine and the table.

    Raises:
        BenchmarkError: There is no such model, or the device does not start.
    """
    try:
        provider = start_provider(chosen.device)
    except ProviderUnavailable as error:
        raise BenchmarkError(f"{error}; or try this command with --device cpu") from error
    provider = dataclasses.replace(provider, binds=True)  # on a CPU, too
    versions_by_name = list_versions(chosen.models_dir)
    names = chosen.models or list(versions_by_name)
    if missing := [name for name in names if not versions_by_name.get(name)]:
        raise BenchmarkError(
            f"{chosen.models_dir} has no model {', '.join(missing)}; it has {', '.join(versions_by_name)}"
        )
    options = " ".join(f"{name}={value}" for name, value in provider.options.items())
    lines = [f"{summary()}, {provider.name}{card()}", options, ""]
    lines += ["| graph | input | CPU, ms | device, ms | batch | ms an image | times as fast | difference | end |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name in names:
        directory = chosen.models_dir / name / str(max(versions_by_name[name]))
        for task, graph in read_manifest(directory.resolve()).tasks.items():
            content = (directory / graph.file).read_bytes()
            sessions = (Session(content, provider=p, threads=1) for p in (CPU, provider))
            row = measure_graph(
                *sessions, label=f"{name}/{directory.name} {task}", side=chosen.side, seconds=chosen.seconds
            )
            lines.append(str(row))
            print(row, file=sys.stderr)  # what was measured before a crash of a driver
    return "\n".join(lines)


def measure_graph(cpu: Session, device: Session, *, label: str, side: int, seconds: float) -> Row:
    """Run one graph in batches of 1, 2, 4 and so on."""
    one = inputs_of(cpu.inputs, 1, side)
    expected, found = cpu.run(*one), device.run(*one)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True))
    cpu_s, image_s_by_batch, end = seconds_of(cpu, one, seconds), {}, f"batch {LARGEST_BATCH}"
    for batch in batches():
        try:
            taken_s = seconds_of(device, inputs_of(device.inputs, batch, side), seconds)
        except MemoryError:
            end = f"no memory for {batch}"
            break
        image_s_by_batch[batch] = taken_s / batch
        if taken_s > seconds:
            end = f"{taken_s:.1f} s for {batch}"
            break
    best = min(image_s_by_batch, key=image_s_by_batch.__getitem__, default=0)
    if not best:
        raise BenchmarkError(f"{label}: {end}; take a smaller --side")
    shape = "x".join(map(str, one[0].shape[1:]))
    return Row(label, shape, cpu_s, image_s_by_batch[1], best, image_s_by_batch[best], difference, end)


def batches() -> Iterator[int]:
    """Yield 1, 2, 4 and so on."""
    batch = 1
    while batch <= LARGEST_BATCH:
        yield batch
        batch *= 2


def inputs_of(tensors: Sequence[Tensor], batch: int, side: int) -> tuple[Floats, ...]:
    """Return random images (batch, C, height, width), latents (batch, D) or noise levels (batch,) for a graph."""
    random = np.random.default_rng(0)
    found: list[Floats] = []
    for tensor in tensors:
        shape = (batch, *(axis if isinstance(axis, int) else side for axis in tensor.shape[1:]))
        if len(shape) == IMAGE:
            found.append(random.random(shape, np.float32))
        elif len(shape) == ROWS:
            found.append(random.standard_normal(shape, np.float32))
        else:
            found.append(np.full(shape, LEVEL, np.float32))
    return tuple(found)


def seconds_of(session: Session, inputs: tuple[Floats, ...], seconds: float) -> float:
    """Return the median time of a run, of those that fit into some seconds, but at least one."""
    session.run(*inputs)
    taken: list[float] = []
    while len(taken) < MOST_RUNS and sum(taken) < seconds:
        started = time.perf_counter()
        session.run(*inputs)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def card() -> str:
    """Return name, driver and memory of the NVIDIA card, empty without one."""
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return f", {subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()}"


if __name__ == "__main__":
    sys.exit(main())
