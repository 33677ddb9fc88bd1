"""The weights of a published model as the start of another training."""

from pathlib import Path

import torch
from onnx import numpy_helper
from torch import Tensor, nn

from service.contract.manifest import Manifest, Start
from training.errors import DataError
from training.start import published, read_graph, start_of

_PREFIX = "network."  # of `Served`, the module that is exported


def read_start(directory: Path) -> Start:
    """What the training of a published model took, for the card of the one that goes on from it.

    Raises:
        DataError: There is no published model for pictures of any size.
    """
    return start_of(_manifest(directory))


def load_start(network: nn.Module, directory: Path) -> None:
    """Gives `network` the weights of a published model, which stand in its graph under their own names.

    `network` may be wider or deeper than the published one, and begins as the same function all the same: a
    weight fills the corner of the larger one, nothing that was there reads the new channels at first, and a residual
    block begins as the identity (Chen et al., Net2Net, 2016, https://arxiv.org/abs/1511.05641).

    Raises:
        DataError: There is no such model, its graph is not what its manifest says, or its network is larger or another.
    """
    manifest = _manifest(directory)
    graph = next(iter(manifest.tasks.values()))
    found = {
        tensor.name.removeprefix(_PREFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in read_graph(directory, graph).graph.initializer
    }
    weights = network.state_dict()
    for name in sorted(weights | {name: None for name in found if name.endswith(("weight", "bias"))}):
        if name in found and name in weights and _fits(name, found[name], weights[name]):
            _grow(weights[name], found[name], inputs=0 if name.startswith("up.") else 1)
        elif name in found or ".body." not in name:
            raise DataError(
                f"{directory} holds a network that is no part of this one: {name} is {_size(found.get(name))}, the "
                f"recipe's is {_size(weights.get(name))}; give the network.widths, network.blocks, data.channels and "
                f"kind that it was made with, or larger ones ({manifest.provenance.config.get('network')})"
            )
    network.load_state_dict(weights)


def _fits(name: str, small: Tensor, large: Tensor) -> bool:
    """Whether kernels are of the same size and channels no fewer; as many where they are those of pictures."""
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
    """Writes `small` into the corner of `large`; its outputs read nothing else. Axis `inputs` counts what is read."""
    corner = [slice(size) for size in small.shape]
    if large.ndim > 1:
        read = corner.copy()
        read[inputs] = slice(None)
        large[tuple(read)] = 0.0
    large[tuple(corner)] = small


def _size(weight: Tensor | None) -> str:
    return "not there" if weight is None else str(list(weight.shape))


def _manifest(directory: Path) -> Manifest:
    manifest = published(directory)
    if manifest.architecture != "restorer":
        raise DataError(f"{directory} is a {manifest.architecture}; a training can start from a model of any size only")
    return manifest
