"""Export from PyTorch to ONNX: write each graph, check it, compare its outputs with PyTorch's; int8 if requested."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from service.contract.manifest import (
    OPTIONAL_INPUTS_BY_TASK,
    OPTIONAL_OUTPUTS_BY_TASK,
    TENSORS_BY_TASK,
    Golden,
    Graph,
    Parity,
    Task,
    TensorSpec,
)
from training.errors import ExportError
from training.exported import (
    ANOMALY_PARITY_TOLERANCE,
    PARITY_TOLERANCE,
    largest_difference,
    measure_parity,
    run_graph,
    served,
)
from training.files import write_atomically
from training.quantise import chain, quantise

OPSET = 20
GOLDEN_IMAGES = 2
GOLDEN_TOLERANCE = 1e-3  # another processor, or CUDA with its TF32, rounds differently
INT8_GOLDEN_TOLERANCE = 5e-2  # there, what is rounded the other way moves by a whole step of 1/255 of its range
GOLDEN_FILE = "golden.npz"

Images = Float[Tensor, "batch channel height width"]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Int8:
    """Options of int8 graphs: every task is a chain of the same parts, so that `denoise` equals decode(encode(x)).

    Attributes:
        parts: Encode and Decode, or Denoise if there is no latent.
        images: Inputs of the network, for the ranges of activations.
        check: Called with the int8 chain of all parts before a graph is written; raises if int8 loses too much.
        prior: Network that draws the latents of `generate`, in float32.
        noise: Example inputs of the prior.
    """

    parts: Sequence[nn.Module]
    images: Images
    check: Callable[[Callable[[Tensor], Tensor]], None]
    prior: nn.Module | None = None
    noise: tuple[Tensor, ...] = ()


def export_graphs(
    graph_by_task: dict[Task, nn.Module],
    examples: Mapping[Task, Tensor | tuple[Tensor, ...]],
    directory: Path,
    *,
    int8: Int8 | None = None,
) -> tuple[dict[Task, Graph], Golden]:
    """Write `<task>.onnx` for every task and one golden.npz into `directory`.

    Args:
        graph_by_task: Networks in evaluation mode, on the CPU.
        examples: At least 16 real inputs per task, a tensor for every input of its graph. Parity is measured on them
            and on random ones of their shape; the first two become the golden sample.
        directory: Directory for the files.
        int8: Options of int8 graphs; None for float32.

    Raises:
        ExportError: A graph is not valid, or differs from PyTorch by more than 1e-4 (anomaly: 1e-3),
            or int8 loses too much.
    """
    golden: dict[str, Array] = {}
    described: dict[Task, Graph] = {}
    for task, network in graph_by_task.items():
        path = directory / f"{task}.onnx"
        example = tuple(x[:2] for x in _inputs(examples[task]))
        with torch.no_grad():
            answers = len(_inputs(network(*example)))
        content = to_onnx(network, example, *_tensors_of(task, len(example), answers))
        with write_atomically(path) as file:
            file.write(content)
        tolerance = ANOMALY_PARITY_TOLERANCE if task == "anomaly" else PARITY_TOLERANCE
        parity = measure_parity(path, network, *_inputs(examples[task]), tolerance=tolerance)
        described[task] = describe(path, content, task, parity)
    if int8 is not None:
        _make_int8(described, directory, int8)
    for task in graph_by_task:
        golden |= golden_sample(task, directory, *(x[:GOLDEN_IMAGES].numpy() for x in _inputs(examples[task])))
    tolerance = GOLDEN_TOLERANCE if int8 is None else INT8_GOLDEN_TOLERANCE
    return described, write_golden(golden, directory, tolerance=tolerance)


def export_any_size(
    task: Task,
    network: nn.Module,
    inputs: Callable[[int, int, int], tuple[Tensor, ...]],
    directory: Path,
    *,
    multiple_of: int,
    sizes: Sequence[tuple[int, int, int]],
) -> Graph:
    """Write `<task>.onnx` for images of any size that `multiple_of` divides, and compare it with PyTorch.

    Args:
        task: Task of the graph.
        network: Network in evaluation mode, on the CPU.
        inputs: (images, rows, columns) -> a tensor for every input; rows and columns are in cells of `multiple_of`.
        directory: Directory for the file.
        multiple_of: Side of a cell in pixels.
        sizes: Numbers of images, rows and columns to compare at.

    Raises:
        ExportError: The graph is not valid, or differs from PyTorch by more than 1e-4.
    """
    path, example = directory / f"{task}.onnx", inputs(2, 8, 6)
    content = to_onnx(network, example, *_tensors_of(task, len(example)), multiple_of=multiple_of)
    with write_atomically(path) as file:
        file.write(content)
    worst = float(np.max([largest_difference(path, network, *inputs(*size)) for size in sizes]))  # NaN stays NaN
    if not worst <= PARITY_TOLERANCE:
        raise ExportError(f"{path.name}: onnxruntime and PyTorch differ by {worst:.2e}, at most 1e-4 is allowed")
    return describe(path, content, task, Parity(max_abs_diff=worst, tolerance=PARITY_TOLERANCE))


def golden_sample(task: Task, directory: Path, *inputs: Array) -> dict[str, Array]:
    """Return example inputs and outputs of a task's graph, by `<task>.<tensor>`."""
    answers = run_graph(directory / f"{task}.onnx", *inputs)
    names, outputs = _tensors_of(task, len(inputs), len(answers))
    return {f"{task}.{name}": x for name, x in zip((*names, *outputs), (*inputs, *answers), strict=True)}


def write_golden(arrays: Mapping[str, Array], directory: Path, *, tolerance: float = GOLDEN_TOLERANCE) -> Golden:
    """Write golden.npz: inputs and expected outputs of every graph, within `tolerance` on every machine."""
    with write_atomically(directory / GOLDEN_FILE) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    sha256 = hashlib.sha256((directory / GOLDEN_FILE).read_bytes()).hexdigest()
    return Golden(file=GOLDEN_FILE, sha256=sha256, tolerance=tolerance)


def _inputs(example: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return example if isinstance(example, tuple) else (example,)


def _tensors_of(task: Task, inputs: int, outputs: int = 1) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the input and output names of a task's graph with these numbers of inputs and outputs."""
    names, results = TENSORS_BY_TASK[task]
    more_names, more_results = OPTIONAL_INPUTS_BY_TASK.get(task, ()), OPTIONAL_OUTPUTS_BY_TASK.get(task, ())
    return (names + more_names)[:inputs], (results + more_results)[:outputs]


def _make_int8(described: dict[Task, Graph], directory: Path, int8: Int8) -> None:
    tasks: tuple[Task, ...] = ("encode", "decode") if len(int8.parts) == 2 else ("denoise",)
    parts, x = [], int8.images
    for task, network in zip(tasks, int8.parts, strict=True):
        path = directory / f"{task}.onnx"
        content = path.read_bytes() if task in described else to_onnx(network, (x[:2],), *_tensors_of(task, 1))
        parts.append(quantise(content, x.numpy()))
        with torch.no_grad():
            x = network(x)
    content_by_task: dict[Task, bytes] = {
        "denoise": chain(parts, inputs=["x"], outputs=["x_hat"]),
        "encode": parts[0],
        "decode": parts[-1],
    }
    if int8.prior is not None:
        inputs, outputs = _tensors_of("generate", len(int8.noise))
        prior = to_onnx(int8.prior, tuple(x[:2] for x in int8.noise), inputs, ("z",))
        content_by_task["generate"] = chain([prior, parts[-1]], inputs=inputs, outputs=outputs)
    int8.check(served(content_by_task["denoise"]))  # also where the recipe does not offer `denoise`
    for task in described.keys() & content_by_task.keys():  # a detector stays float32: it is small, and no such chain
        graph, path = described[task], directory / f"{task}.onnx"
        with write_atomically(path) as file:
            file.write(content_by_task[task])
        described[task] = describe(path, content_by_task[task], task, graph.parity, precision="int8")


def to_onnx(
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    multiple_of: int = 0,
) -> bytes:
    """Export the network as ONNX with a dynamic batch axis. The bytes are reproducible on any machine.

    With `multiple_of`, height and width of images are dynamic too, in multiples of it.
    """
    name = type(network).__name__
    batch = torch.export.Dim("batch")
    # The exporter warns of its own internals, and reports on optional packages; neither is for our user.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch, **_any_size(x, multiple_of)} for x in example),
        )
    if program is None:
        raise ExportError(f"{name}: the exporter returned nothing")
    program.optimize()
    model = program.model_proto
    del model.metadata_props[:]
    model.producer_version = ""
    for node in model.graph.node:  # source lines and module paths: of no use to a server
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    if multiple_of:
        _name_axes(model.graph)
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]  # onnxruntime infers shapes itself
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{name}: the exported graph is not valid ONNX: {error}") from error
    return bytes(model.SerializeToString(deterministic=True))


def _name_axes(graph: onnx.GraphProto) -> None:
    """Name dynamic axes for readers: the exporter names them by their arithmetic, such as "8*rows"."""
    names = ("batch", "channels", "height", "width")
    known = [axis.dim_param for axis in graph.input[0].type.tensor_type.shape.dim]
    for value in [*graph.input, *graph.output]:
        for i, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_param:
                axis.dim_param = names[i] if axis.dim_param in known else f"output_{names[i]}"


def _any_size(example: Tensor, multiple_of: int) -> dict[int, object]:
    if not multiple_of or example.ndim < 4:  # images are (N, C, H, W)
        return {}
    return {axis: multiple_of * torch.export.Dim(name) for axis, name in ((2, "rows"), (3, "columns"))}


def describe(
    path: Path, content: bytes, task: Task, parity: Parity, *, precision: Literal["float32", "int8"] = "float32"
) -> Graph:
    """Return the manifest entry of a graph that was written to `path`.

    Raises:
        ExportError: The tensors of the graph are not those of the contract.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    dtype: Literal["float32"] = "float32"
    inputs, outputs = (
        tuple(TensorSpec(name=t.name, dtype=dtype, shape=tuple(t.shape)) for t in tensors)
        for tensors in (session.get_inputs(), session.get_outputs())
    )
    contract = _tensors_of(task, len(inputs), len(outputs))
    if (tuple(t.name for t in inputs), tuple(t.name for t in outputs)) != contract:
        raise ExportError(f"{task}: exported tensors {inputs} -> {outputs}, the contract says {contract}")
    return Graph(
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        opset=OPSET,
        inputs=inputs,
        outputs=outputs,
        parity=parity,
        precision=precision,
    )
