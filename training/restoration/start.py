"""The weights of a published model as the start of another training."""

import hashlib
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from pydantic import ValidationError

from service.manifest import Manifest, Start
from training.architectures.restorer import Restorer
from training.errors import DataError

_PREFIX = "network."  # of `Served`, the module that is exported


def read_start(directory: Path) -> Start:
    """What the training of a published model took, for the card of the one that goes on from it.

    Raises:
        DataError: There is no published model for pictures of any size.
    """
    manifest = _manifest(directory)
    made, graph = manifest.provenance, next(iter(manifest.tasks.values()))
    before = made.start
    return Start(
        name=manifest.name,
        version=manifest.version,
        sha256=graph.sha256,
        images_seen=made.images_seen + (before.images_seen if before else 0),
        cpu_s=made.cpu_s + (before.cpu_s if before else 0.0),
    )


def load_start(network: Restorer, directory: Path) -> None:
    """Gives `network` the weights of a published model, which stand in its graph under their own names.

    Raises:
        DataError: There is no such model, its graph is not what its manifest says, or its network is another one.
    """
    manifest = _manifest(directory)
    graph = next(iter(manifest.tasks.values()))
    path = directory / graph.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; training.start_from is a published model") from error
    if hashlib.sha256(content).hexdigest() != graph.sha256:
        raise DataError(f"{path} is not the file that {directory / 'manifest.json'} describes")
    found = onnx.load_model_from_string(content).graph.initializer
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
    path = directory / "manifest.json"
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"training.start_from={directory} is no published model (models/<name>/<version>): {path} cannot be read"
        ) from error
    if manifest.architecture != "restorer":
        raise DataError(f"{directory} is a {manifest.architecture}; a training can start from a model of any size only")
    return manifest
