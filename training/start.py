"""The weights of a published model as the start of another training of the same network."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from pydantic import ValidationError
from torch import nn

from service.contract.manifest import Graph, Manifest, Start
from training.errors import DataError

_PREFIX = "model."  # of the modules that are exported


def read_start(directory: Path) -> Start:
    """What the training of a published model took, for the card of the one that goes on from it.

    Raises:
        DataError: There is no published model.
    """
    return start_of(published(directory))


def start_of(manifest: Manifest) -> Start:
    """What training a model took, with what it began with."""
    made, graph = manifest.provenance, next(iter(manifest.tasks.values()))
    before = made.start
    return Start(
        name=manifest.name,
        version=manifest.version,
        sha256=graph.sha256,
        images_seen=made.images_seen + (before.images_seen if before else 0),
        cpu_s=made.cpu_s + (before.cpu_s if before else 0.0),
    )


def load_start(network: nn.Module, directory: Path) -> None:
    """Gives `network` the weights of a published model, which stand in its graphs under their own names.

    Weights of int8 graphs come back rounded.

    Raises:
        DataError: There is no such model, a graph is not what its manifest says, or its network is another one.
    """
    manifest = published(directory)
    found: dict[str, NDArray[np.float32]] = {}
    for graph in manifest.tasks.values():
        found |= _weights(read_graph(directory, graph))
    wanted = network.state_dict()
    for name, weight in wanted.items():
        shape = found[name].shape if name in found else None
        if shape != tuple(weight.shape):
            raise DataError(
                f"{directory} holds another network: {name} is {'not there' if shape is None else list(shape)}, the "
                f"recipe's is {list(weight.shape)}; give the architecture that it was made with "
                f"({manifest.provenance.config.get('architecture')})"
            )
    network.load_state_dict({name: torch.from_numpy(found[name].copy()) for name in wanted})


def read_graph(directory: Path, graph: Graph) -> ModelProto:
    """A graph of a published model.

    Raises:
        DataError: It cannot be read, or is not what the manifest says.
    """
    path = directory / graph.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; training.start_from is a published model") from error
    if hashlib.sha256(content).hexdigest() != graph.sha256:
        raise DataError(f"{path} is not the file that {directory / 'manifest.json'} describes")
    return onnx.load_model_from_string(content)


def _weights(model: ModelProto) -> dict[str, NDArray[np.float32]]:
    """Name to float32 weights; those of int8 are multiplied by their scales."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = {name: array for name, array in stored.items() if array.dtype == np.float32}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0].endswith("_quantized") and node.input[0] in stored:
            values, scale, zero = (stored[name] for name in node.input)
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            if scale.ndim:
                shape = [-1 if i == axis else 1 for i in range(values.ndim)]
                scale, zero = scale.reshape(shape), zero.reshape(shape)
            plain = (values.astype(np.float32) - zero.astype(np.float32)) * scale
            weights[node.input[0].removesuffix("_quantized")] = plain.astype(np.float32)
    return {name[name.find(_PREFIX) + len(_PREFIX) :]: array for name, array in weights.items() if _PREFIX in name}


def published(directory: Path) -> Manifest:
    """The manifest of a published model.

    Raises:
        DataError: There is none.
    """
    path = directory / "manifest.json"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"training.start_from={directory} is no published model (models/<name>/<version>): {path} cannot be read"
        ) from error
