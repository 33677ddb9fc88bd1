"""Initialisation of a training from the weights of a published model."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from service.contract.manifest import Graph, Manifest
from service.contract.provenance import Start
from service.contract.version import manifest_of
from training.architectures.restorer import Restorer
from training.errors import DataError

_PREFIXES = ("model.", "network.")  # of the modules that are exported


def read_start(directory: Path) -> Start:
    """Return the training cost of a published model, for the card of a model that starts from it.

    Raises:
        DataError: The directory has no published model.
    """
    manifest = _published(directory)
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
    """Load the weights of a published model from its graphs into `network`.

    Weights of int8 graphs are rounded. A `Restorer` may be wider or deeper than the published one and still starts as
    the same function: a weight fills the corner of the larger one, existing channels do not read new ones at first, and
    a new residual block starts as the identity (Chen et al., Net2Net, 2016, https://arxiv.org/abs/1511.05641).

    Raises:
        DataError: The model is missing, a graph differs from its manifest, or its network is another one.
    """
    manifest = _published(directory)
    may_grow = isinstance(network, Restorer)
    if may_grow and manifest.architecture != "restorer":
        raise DataError(f"{directory} is a {manifest.architecture}; a training can start from a model of any size only")
    found: dict[str, Tensor] = {}
    for graph in manifest.tasks.values():
        found |= _weights(_read_graph(directory, graph))
    weights = network.state_dict()
    more = {name for name in found if may_grow and name.endswith(("weight", "bias"))}
    for name in sorted(weights.keys() | more):
        small, large = found.get(name), weights.get(name)
        if small is not None and large is not None and small.shape == large.shape:
            large.copy_(small)
        elif may_grow and small is not None and large is not None and _fits(name, small, large):
            _grow(large, small, inputs=0 if name.startswith("up.") else 1)
        elif not may_grow or small is not None or ".body." not in name:
            config = manifest.provenance.config
            raise DataError(
                f"{directory} holds another network: {name} is {_size(small)}, the recipe's is {_size(large)}; give "
                f"the architecture, channels and kind of {config.get('network') or config.get('architecture')}"
                + (", or a larger network" if may_grow else "")
            )
    network.load_state_dict(weights)


def _fits(name: str, small: Tensor, large: Tensor) -> bool:
    """Return whether a weight fits into a larger one: same kernel size and image channels, at least as many others."""
    same = {"stem.weight": slice(1, None), "head.weight": slice(0, 1), "head.bias": slice(None)}.get(
        name, slice(2, None)
    )
    return (
        small.ndim == large.ndim
        and small.shape[same] == large.shape[same]
        and small.shape[2:] == large.shape[2:]
        and all(a <= b for a, b in zip(small.shape, large.shape, strict=True))
    )


def _grow(large: Tensor, small: Tensor, *, inputs: int) -> None:
    """Write `small` into the corner of `large`, and zero the other inputs (axis `inputs`) of its outputs."""
    corner = [slice(size) for size in small.shape]
    if large.ndim > 1:
        read = corner.copy()
        read[inputs] = slice(None)
        large[tuple(read)] = 0.0
    large[tuple(corner)] = small


def _size(weight: Tensor | None) -> str:
    return "not there" if weight is None else str(list(weight.shape))


def _read_graph(directory: Path, graph: Graph) -> ModelProto:
    path = directory / graph.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; training.start_from is a published model") from error
    if hashlib.sha256(content).hexdigest() != graph.sha256:
        raise DataError(f"{path} is not the file that {directory / 'manifest.json'} describes")
    return onnx.load_model_from_string(content)


def _weights(model: ModelProto) -> dict[str, Tensor]:
    """Return float32 weights by name; int8 weights are multiplied by their scales."""
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
    return {
        name[name.find(prefix) + len(prefix) :]: torch.from_numpy(array.copy())
        for prefix in _PREFIXES
        for name, array in weights.items()
        if prefix in name
    }


def _published(directory: Path) -> Manifest:
    path = directory / "manifest.json"
    try:
        return manifest_of(directory)
    except (OSError, ValueError) as error:
        raise DataError(
            f"training.start_from={directory} is no published model (models/<name>/<version>): {path} cannot be read"
        ) from error
