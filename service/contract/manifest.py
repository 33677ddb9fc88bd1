"""The contract between training and service: the contents of `models/<name>/<version>/manifest.json`.

The service owns it. `training/manifest.py` builds a `Manifest`, so a missing field fails when a model is made and not
when it is served. Imports the standard library and pydantic only, as does `tables.py`, its part for compression.
`python -m service.api.reference` writes docs/manifest.md from the descriptions here.
"""

import re
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt, model_validator

from service.contract.tables import CELL, Compression, Sha256

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_FILE = "manifest.json"

Task = Literal["denoise", "encode", "decode", "anomaly", "enhance", "generate", "compress", "decompress"]
TASKS: tuple[Task, ...] = get_args(Task)

# Input and output tensor names of every task's graph, in order. A graph that differs never goes live.
TENSORS_BY_TASK: dict[Task, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "denoise": (("x",), ("x_hat",)),
    "encode": (("x",), ("z",)),
    "decode": (("z",), ("x_hat",)),
    "anomaly": (("x",), ("score", "map")),
    "enhance": (("x",), ("x_hat",)),
    "generate": (("e",), ("x_hat",)),
    "compress": (("x", "rate"), ("y",)),
    "decompress": (("symbols", "rate"), ("x_hat",)),
}
# Inputs that a graph of the task may have behind those: sigma (N,) is the noise of each image in 0-255 units, label
# (N,) what each image shall show, as an index into `Generate.labels`.
OPTIONAL_INPUTS_BY_TASK: dict[Task, tuple[str, ...]] = {"denoise": ("sigma",), "generate": ("label",)}
MAX_EXAMPLES = 1000
MAX_NOISE_DIM = 4096  # numbers that `generate` may want for one image

_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
Name = Annotated[str, Field(pattern=_NAME)]
# One file beside the manifest: no separators, so no graph is ever read from outside its own directory.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
_SHARES_TOLERANCE = 1e-3  # they may be written with few digits


def is_name(name: str) -> bool:
    """Whether a model may be called so."""
    return re.fullmatch(_NAME, name) is not None


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Frozen):
    """One input or output of a graph. A string in `shape` names a dynamic axis ("batch", "height", "width")."""

    name: str
    """Name of the tensor in the graph."""
    dtype: Literal["float32"]
    """Element type."""
    shape: tuple[PositiveInt | str, ...]
    """Size of each axis: a number, or the name of a dynamic axis."""


class Parity(_Frozen):
    """Largest absolute difference between onnxruntime and PyTorch on the same input, measured at export."""

    max_abs_diff: Finite
    """The difference that was measured."""
    tolerance: Finite
    """The largest difference that was allowed."""


class Graph(_Frozen):
    """One task: an ONNX file in the model's directory, with all weights inside.

    `parity` is that of the float32 graph with PyTorch. An int8 graph is made from that one; what it loses stands among
    the metrics.
    """

    file: FileName
    """ONNX file beside the manifest."""
    sha256: Sha256
    """SHA-256 of the file."""
    opset: PositiveInt
    """Version of the ONNX operators."""
    inputs: tuple[TensorSpec, ...]
    """Input tensors, in order."""
    outputs: tuple[TensorSpec, ...]
    """Output tensors, in order."""
    parity: Parity
    """Agreement of the float32 graph with PyTorch."""
    precision: Literal["float32", "int8"] = "float32"
    """Type of the weights and activations inside the graph."""


class InputSpec(_Frozen):
    """Which images the graphs take: float32 pixels in [0, 1], NCHW.

    `height` and `width` are both numbers (fixed size) or both None (any size that is a multiple of `multiple_of`;
    `halo` is the reach of the network in pixels, the overlap that tiles need).

    `resize` says what happens to an image of another size: "fit" keeps its proportions and pads to the model's
    size, "exact" stretches it, "reject" answers 422.
    """

    channels: Literal[1, 3]
    """1 grey, 3 colour."""
    height: PositiveInt | None
    """Pixels; null for any size."""
    width: PositiveInt | None
    """Pixels; null for any size."""
    multiple_of: PositiveInt = 1
    """Each side is padded to a multiple of this, in pixels."""
    halo: Annotated[int, Field(ge=0)] = 0
    """Reach of the network, in pixels: the overlap of tiles."""
    resize: Literal["exact", "fit", "reject"]
    """What happens to an image of another size."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.height is None) != (self.width is None):
            raise ValueError(f"height={self.height} and width={self.width}: give both, or neither for any size")
        return self


class LevelEstimator(_Frozen):
    """From what an image says of its noise to the level that this model restores it best with.

    A network of one hidden layer over `features` of `service/contract/noise.py`, fitted on pictures whose best level
    was known. With f the features of a tile and u its answer, sigma = max(u, 0) ** 2 in 0-255 units, where

        u = out_bias + out . relu(hidden_bias + hidden . clip((f - center) / spread, -4, 4))
    """

    features: Literal["haar-1"]
    """Version of the features."""
    center: tuple[Finite, ...]
    """Mean of each feature."""
    spread: tuple[Annotated[float, Field(gt=0.0, allow_inf_nan=False)], ...]
    """Standard deviation of each feature."""
    hidden: tuple[tuple[Finite, ...], ...]
    """Weights of the hidden layer, a row per unit."""
    hidden_bias: tuple[Finite, ...]
    """Bias of each hidden unit."""
    out: tuple[Finite, ...]
    """Weights of the output."""
    out_bias: Finite
    """Bias of the output."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if any(len(row) != len(self.center) for row in (self.spread, *self.hidden)):
            raise ValueError(f"spread and every row of hidden have {len(self.center)} numbers, as center has")
        if not len(self.hidden) == len(self.hidden_bias) == len(self.out):
            raise ValueError(f"hidden_bias and out have {len(self.hidden)} numbers, one for each row of hidden")
        return self


class Noise(_Frozen):
    """The noise levels a denoiser was trained for: standard deviations in 0-255 units.

    Without `estimator` the level of white noise is estimated, from the finest differences.
    """

    min_sigma: Annotated[float, Field(ge=0.0, le=255.0)]
    """Weakest noise."""
    max_sigma: Annotated[float, Field(gt=0.0, le=255.0)]
    """Strongest noise."""
    estimator: LevelEstimator | None = None
    """Estimates the level if a request names none."""


class Enhance(_Frozen):
    """How much larger the output is. With `luma_only` the graph takes the luma alone, full-range BT.601 in [0, 1]."""

    scale: Annotated[int, Field(ge=2, le=8)]
    """Factor on width and height."""
    luma_only: bool = False
    """The graph sees luma only; chroma is resized."""


class Generate(_Frozen):
    """What the fitted prior draws. The graph turns e (N, D), standard normal, into images.

    With `labels` it is told by its second input what to draw; `shares` are how frequent each label was among the
    training images. Without them it draws whatever comes.
    """

    labels: tuple[str, ...] = ()
    """Labels that a request can ask for."""
    shares: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = ()
    """Frequency of each label among the training images; sums to 1."""

    @model_validator(mode="after")
    def _one_share_each(self) -> Self:
        if len(self.labels) != len(self.shares) or len(set(self.labels)) != len(self.labels):
            raise ValueError(
                f"{len(self.labels)} labels and {len(self.shares)} shares: give each label one share, once"
            )
        if self.shares and abs(sum(self.shares) - 1) > _SHARES_TOLERANCE:
            raise ValueError(f"the shares sum to {sum(self.shares):g}, not to 1")
        return self


class Latent(_Frozen):
    """The latent space: its size, and mean and standard deviation of each latent over the training images.

    `directions` are the principal directions of the training images' latents, unit vectors by falling variance, and
    `spread` is the standard deviation along each: what to turn to walk through the space. Both may be missing.
    """

    dim: PositiveInt
    """Number of latents."""
    mean: tuple[Finite, ...]
    """Mean of each latent over the training images."""
    std: tuple[Finite, ...]
    """Standard deviation of each latent."""
    directions: tuple[tuple[Finite, ...], ...] = ()
    """Principal directions, unit vectors by falling variance."""
    spread: tuple[Annotated[float, Field(ge=0.0, allow_inf_nan=False)], ...] = ()
    """Standard deviation along each direction."""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if not len(self.mean) == len(self.std) == self.dim:
            raise ValueError(f"dim is {self.dim} but mean has {len(self.mean)} and std {len(self.std)} values")
        if len(self.directions) != len(self.spread) or any(len(row) != self.dim for row in self.directions):
            raise ValueError(f"directions are rows of {self.dim} numbers, each with one spread")
        return self


class Examples(_Frozen):
    """Where some test images lie in the latent space, and what they show: for a map of it."""

    labels: tuple[str, ...]
    """Label of each test image."""
    latents: tuple[tuple[Finite, ...], ...]
    """Latents of each test image."""

    @model_validator(mode="after")
    def _one_label_each(self) -> Self:
        if len(self.labels) != len(self.latents) or len(self.labels) > MAX_EXAMPLES:
            raise ValueError(
                f"{len(self.labels)} labels and {len(self.latents)} latents: as many of each, at most {MAX_EXAMPLES}"
            )
        return self


class Calibration(_Frozen):
    """Anomaly scores of normal images that the model was not trained on, in ascending order.

    `threshold` is the smallest score whose conformal p-value, (1 + number of `scores` at or above it) / (n + 1),
    is at most `target_fpr`: about that share of normal images will be flagged. It lies just above one of the scores.

    `map_peaks` are the largest values of the maps of the same images, also ascending, so in an order of their own: from
    where on a place in a map is unusual. Empty where a model was calibrated without them.
    """

    score: str
    """Name of the score."""
    target_fpr: Share
    """Share of normal images that the threshold may flag."""
    threshold: Finite
    """Images with this score or more are anomalous."""
    scores: Annotated[tuple[Finite, ...], Field(min_length=1)]
    """Scores of the calibration images, ascending."""
    map_peaks: tuple[Finite, ...] = ()
    """Largest map value of each calibration image, ascending."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        for name, values in (("scores", self.scores), ("map_peaks", self.map_peaks)):
            if any(a > b for a, b in pairwise(values)):
                raise ValueError(f"{name} must be in ascending order")
        if self.map_peaks and len(self.map_peaks) != len(self.scores):
            raise ValueError(
                f"{len(self.map_peaks)} map_peaks and {len(self.scores)} scores: give one per image, or none"
            )
        return self


class Split(_Frozen):
    """How many images each part had. No image is in two parts."""

    train: int
    """Images that the weights were fitted to."""
    validation: int
    """Images that settings were chosen by."""
    calibration: int
    """Images that the threshold was set by."""
    test: int
    """Images that the figures are of."""


class Data(_Frozen):
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


class Start(_Frozen):
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


class Provenance(_Frozen):
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


class Metric(_Frozen):
    """One measured figure, beside figures for the same thing from methods that cost less."""

    name: str
    """Name of the figure."""
    task: Task
    """Task that was measured."""
    value: Finite
    """The figure."""
    unit: str
    """Unit of the figure."""
    data: str
    """Images that it was measured on."""
    higher_is_better: bool
    """Which direction is better."""
    baselines: dict[str, Finite]
    """The same figure of cheaper methods, by name."""


class Golden(_Frozen):
    """A small input per task and its recorded output: `<task>.<tensor>` arrays in one NPZ, the self-test at load.

    Another processor may round differently: outputs agree when |a - b| <= tolerance * (1 + |b|) everywhere.
    """

    file: FileName
    """NPZ file beside the manifest."""
    sha256: Sha256
    """SHA-256 of the file."""
    tolerance: Finite
    """Largest relative difference on another machine."""


class Manifest(_Frozen):
    """Everything the service and a reader need to know about one model version."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this format."""
    name: Name
    """Model name."""
    version: PositiveInt
    """Model version."""
    created: datetime
    """When the version was published."""
    summary: str
    """One line for the card."""
    architecture: str
    """Name of the network."""
    default_for: tuple[Task, ...] = ()
    """Tasks that it answers if a request names no model."""
    tasks: dict[Task, Graph]
    """One graph per task."""
    input: InputSpec
    """Images that the graphs take."""
    latent: Latent | None
    """The latent space; null without encode and decode."""
    examples: Examples | None = None
    """Points of the map of the latent space."""
    anomaly: Calibration | None
    """Calibration of the anomaly score."""
    noise: Noise | None = None
    """Noise levels, for models that are told the noise."""
    enhance: Enhance | None = None
    """Enlargement."""
    generate: Generate | None = None
    """What the prior draws."""
    compression: Compression | None = None
    """Rates and tables of a model that compresses."""
    golden: Golden
    """Self-test at load."""
    metrics: tuple[Metric, ...]
    """Measured figures beside baselines."""
    provenance: Provenance
    """How the model was made."""
    limits: tuple[str, ...]
    """What the model cannot do, as sentences."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.tasks:
            raise ValueError("a model needs at least one task")
        self._check_tensors()
        self._check_latents()
        self._check_parts()
        if self.generate is not None:
            self._check_generate(self.tasks["generate"], self.generate)
        self._check_size()
        if missing := set(self.default_for) - self.tasks.keys():
            raise ValueError(f"default for {sorted(missing)}, which it does not offer")
        return self

    def _check_tensors(self) -> None:
        for task, graph in self.tasks.items():
            names = (tuple(t.name for t in graph.inputs), tuple(t.name for t in graph.outputs))
            inputs, outputs = TENSORS_BY_TASK[task]
            if names not in {(inputs, outputs), (inputs + OPTIONAL_INPUTS_BY_TASK.get(task, ()), outputs)}:
                raise ValueError(f"{task}: tensors are {names}, the contract says {TENSORS_BY_TASK[task]}")

    def _check_latents(self) -> None:
        if self.latent is None and {"encode", "decode"} & self.tasks.keys():
            raise ValueError("encode and decode need `latent`")
        if self.examples and any(len(z) != (self.latent.dim if self.latent else 0) for z in self.examples.latents):
            raise ValueError("the latents of `examples` have another size than `latent` says")

    def _check_parts(self) -> None:
        parts: tuple[tuple[Task, BaseModel | None, str], ...] = (
            ("anomaly", self.anomaly, "its calibration"),
            ("enhance", self.enhance, "`enhance`"),
            ("generate", self.generate, "`generate`"),
            ("compress", self.compression, "`compression`"),
            ("decompress", self.compression, "`compression`"),
        )
        for task, part, name in parts:
            if (part is None) == (task in self.tasks):
                raise ValueError(f"the {task} task and {name} come together")
        if (self.noise is None) == ("denoise" in self.tasks and len(self.tasks["denoise"].inputs) == 2):
            raise ValueError("the input sigma of denoise and `noise` come together")

    def _check_size(self) -> None:
        if (self.enhance or self.noise) and self.input.height is not None:
            raise ValueError("models that enhance, or are told the noise, take any size: height and width are None")
        if self.enhance and self.enhance.luma_only and self.input.channels != 1:
            raise ValueError("a graph of luma alone has one channel")
        if self.compression and (self.input.height is None) != (self.compression.grid is not None):
            raise ValueError("a model that compresses has a grid of symbols or takes one size: height and width")
        if self.compression and self.compression.grid and (self.input.channels, self.input.multiple_of) != (1, CELL):
            raise ValueError(f"with a grid of symbols the graphs see planes: one channel, sides multiples of {CELL}")

    def _check_generate(self, graph: Graph, generate: Generate) -> None:
        if bool(generate.labels) != (len(graph.inputs) == 2):
            raise ValueError("the input label of generate and `generate.labels` come together")
        if self.input.height is None:
            raise ValueError("a model that generates has one size: height and width are numbers")
        match graph.inputs[0].shape:
            case (str(), int() as dim) if dim <= MAX_NOISE_DIM:
                return
            case shape:
                raise ValueError(f"e is {list(shape)}; it is (N, D) with D at most {MAX_NOISE_DIM}")
