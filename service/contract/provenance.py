"""Where a model comes from: its images, its training, and what it began with."""

from pydantic import JsonValue, PositiveInt

from service.contract.fields import Finite, Frozen, Name, Sha256


class Split(Frozen):
    """How many images each part had. No image is in two parts."""

    train: int
    """Images that the weights were fitted to."""
    validation: int
    """Images that settings were chosen by."""
    calibration: int
    """Images that the threshold was set by."""
    test: int
    """Images that the figures are of."""


class Data(Frozen):
    """The images a model was made from. `sha256` is over all image bytes in reading order."""

    name: str
    """Name of the data set."""
    source: str
    """Where the images come from."""
    licence: str
    """Licence of the images."""
    sha256: Sha256
    """SHA-256 of all pixels in reading order."""
    images: PositiveInt
    """Number of images."""
    split: Split
    """Images of each part."""


class Start(Frozen):
    """The published model whose weights a training began with, and what had gone into those."""

    name: Name
    """Name of the model."""
    version: PositiveInt
    """Version of the model."""
    sha256: Sha256
    """SHA-256 of its graph."""
    images_seen: int
    """Images its training had seen."""
    cpu_s: Finite
    """CPU seconds its training took."""


class Provenance(Frozen):
    """How the model was made, enough to make it again. `images_seen` and times do not count those of `start`."""

    data: Data
    """The images."""
    seed: int
    """Seed of everything random."""
    config: dict[str, JsonValue]
    """The whole recipe, with defaults."""
    command: str
    """The command that made the model."""
    start: Start | None = None
    """The model that training began with."""
    commit: str
    """Commit of the code."""
    torch_version: str
    """Version of PyTorch."""
    device: str
    """Device of the training."""
    parameters: PositiveInt
    """Parameters of the network."""
    images_seen: int
    """Images seen in training, with repetition."""
    wall_s: Finite
    """Seconds of training."""
    cpu_s: Finite
    """CPU seconds of training."""
