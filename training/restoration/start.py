"""The weights of a published model as the start of another training."""

from pathlib import Path

import torch
from onnx import numpy_helper

from service.manifest import Manifest, Start
from training.architectures.restorer import Restorer
from training.errors import DataError
from training.start import published, read_graph, start_of

_PREFIX = "network."  # of `Served`, the module that is exported


def read_start(directory: Path) -> Start:
    """What the training of a published model took, for the card of the one that goes on from it.

    Raises:
        DataError: There is no published model for pictures of any size.
    """
    return start_of(_manifest(directory))


def load_start(network: Restorer, directory: Path) -> None:
    """Gives `network` the weights of a published model, which stand in its graph under their own names.

    Raises:
        DataError: There is no such model, its graph is not what its manifest says, or its network is another one.
    """
    manifest = _manifest(directory)
    graph = next(iter(manifest.tasks.values()))
    found = read_graph(directory, graph).graph.initializer
    wanted = network.state_dict()
    weights = {tensor.name.removeprefix(_PREFIX): numpy_helper.to_array(tensor) for tensor in found}
    for name, weight in wanted.items():
        shape = weights[name].shape if name in weights else None
        if shape != tuple(weight.shape):
            raise DataError(
                f"{directory} holds another network: {name} is {'not there' if shape is None else list(shape)}, the "
                f"recipe's is {list(weight.shape)}; give the network.widths, network.blocks, data.channels and kind "
                f"that it was made with ({manifest.provenance.config.get('network')})"
            )
    network.load_state_dict({name: torch.from_numpy(weights[name].copy()) for name in wanted})


def _manifest(directory: Path) -> Manifest:
    manifest = published(directory)
    if manifest.architecture != "restorer":
        raise DataError(f"{directory} is a {manifest.architecture}; a training can start from a model of any size only")
    return manifest
