"""Quantisation to int8, which runs two to three times as fast on a CPU. See docs/decisions/0007-int8.md."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, compose, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Array = NDArray[np.float32]
_BATCH = 64  # images whose activations are in memory at a time


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Calibration inputs in batches, for onnxruntime's quantiser."""

    def __init__(self, name: str, inputs: Array) -> None:
        self._batches: Iterator[Array] = iter(np.array_split(inputs, max(1, len(inputs) // _BATCH)))
        self._name = name

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def quantise(graph: bytes, inputs: Array) -> bytes:
    """Quantise a graph to int8 weights and 8-bit activations between float32 inputs and outputs, reproducibly.

    Weights have a scale per output channel. They use 7 of their 8 bits: processors without VNNI add two products in
    16 bits, which overflows with all 8, and the answers would depend on the processor.

    Args:
        graph: An ONNX file with one input.
        inputs: Representative inputs, (N, ...), for the range of every activation.
    """
    name = onnx.load_from_string(graph).graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, small = (Path(folder) / file for file in ("plain.onnx", "prepared.onnx", "int8.onnx"))
        plain.write_bytes(graph)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            small,
            _Batches(name, inputs),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        return _cleaned(onnx.load(small))


def chain(graphs: Sequence[bytes], *, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Merge several graphs into one, connected by tensors of the same name; internal names stay separate.

    Args:
        graphs: ONNX files, in the order in which they run.
        inputs: Names of the inputs of the merged graph.
        outputs: Names of the outputs of the merged graph.
    """
    models = [
        compose.add_prefix(onnx.load_from_string(graph), f"{i}.", rename_inputs=False, rename_outputs=False)
        for i, graph in enumerate(graphs)
    ]
    values = {value.name: value for m in models for value in (*m.graph.input, *m.graph.output)}
    whole = helper.make_graph(
        [node for m in models for node in m.graph.node],
        "chain",
        [values[name] for name in inputs],
        [values[name] for name in outputs],
        [weights for m in models for weights in m.graph.initializer],
    )
    model = helper.make_model(whole, opset_imports=models[0].opset_import, ir_version=models[0].ir_version)
    onnx.checker.check_model(model, full_check=True)
    return _cleaned(model)


def _cleaned(model: ModelProto) -> bytes:
    model.producer_name = model.producer_version = ""
    del model.metadata_props[:], model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
    used = {node.domain for node in model.graph.node}
    imports = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return bytes(model.SerializeToString(deterministic=True))
