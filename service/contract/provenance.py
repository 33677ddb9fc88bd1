"""The provenance of a model: its images, its training, and the model it started from."""

from pydantic import JsonValue, PositiveInt

from service.contract.fields import Finite, Frozen, Name, Sha256


class Split(Frozen):
    """Number of images in each part. No image is in two parts."""

    train: int
    """Images used to fit the weights."""
    validation: int
    """Images used to choose settings, or watched during training."""
    calibration: int
    """Images used to set the threshold."""
    test: int
    """Images used for the figures only."""


class Data(Frozen):
    """The images of a model. `sha256` is over all image bytes in reading order."""

    name: str
    """Name of the data set."""
    source: str
    """Origin of the images."""
    licence: str
    """Licence of the images."""
    sha256: Sha256
    """SHA-256 of all pixels in reading order."""
    images: PositiveInt
    """Number of images."""
    split: Split
    """Number of images in each part."""


class Start(Frozen):
    """The published model whose weights the training started from, and the cost of that model."""

    name: Name
    """Name of the model."""
    version: PositiveInt
    """Version of the model."""
    sha256: Sha256
    """SHA-256 of its graph."""
    images_seen: int
    """Images seen in its training, with repetition."""
    cpu_s: Finite
    """CPU seconds of its training."""


class Provenance(Frozen):
    """Everything needed to reproduce the model. `images_seen` and times do not include those of `start`."""

    data: Data
    """The images."""
    seed: int
    """Seed of all random numbers."""
    config: dict[str, JsonValue]
    """The whole recipe, with defaults."""
    command: str
    """Command that reproduces the model."""
    start: Start | None = None
    """The model that training started from; null if from nothing."""
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
