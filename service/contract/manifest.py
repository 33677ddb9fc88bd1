"""The contract between training and service: the contents of `models/<name>/<version>/manifest.json`.

The service owns it. `training/manifest.py` builds a `Manifest`, so a missing field fails when a model is made and not
when it is served. Its parts are in `sections.py`, `provenance.py` and `tables.py`. All import pydantic only.
`python -m service.api.reference` writes docs/manifest.md from the descriptions here.
"""

from datetime import datetime
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, Field, PositiveInt, model_validator

from service.contract.fields import FileName, Finite, Frozen, Name, Sha256
from service.contract.provenance import Provenance
from service.contract.sections import Calibration, Enhance, Examples, Generate, Latent, Noise
from service.contract.tables import CELL, Compression

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
# Optional inputs of a task's graph, after those: sigma (N,) is the noise of each image in 0-255 units, label
# (N,) is the class to generate, as an index into `Generate.labels`.
OPTIONAL_INPUTS_BY_TASK: dict[Task, tuple[str, ...]] = {"denoise": ("sigma",), "generate": ("label",)}
# Optional outputs: distance (N,) of each image as a whole from good ones, for the statistic `features` of `Learnt`.
OPTIONAL_OUTPUTS_BY_TASK: dict[Task, tuple[str, ...]] = {"anomaly": ("distance",)}
MAX_NOISE_DIM = 4096  # largest number of values of `e` per image


class TensorSpec(Frozen):
    """One input or output of a graph. A string in `shape` names a dynamic axis ("batch", "height", "width")."""

    name: str
    """Name of the tensor in the graph."""
    dtype: Literal["float32"]
    """Element type."""
    shape: tuple[PositiveInt | str, ...]
    """Size of each axis: a number, or the name of a dynamic axis."""


class Parity(Frozen):
    """Largest absolute difference between onnxruntime and PyTorch on the same input, measured at export."""

    max_abs_diff: Finite
    """Measured difference."""
    tolerance: Finite
    """Largest difference allowed at export."""


class Graph(Frozen):
    """One task: an ONNX file in the model's directory, with all weights inside.

    `parity` compares the float32 graph with PyTorch. An int8 graph is quantised from the float32 graph; the metrics
    include its loss.
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


class InputSpec(Frozen):
    """Describe the input images of the graphs: float32 pixels in [0, 1], NCHW.

    `height` and `width` are both numbers (fixed size) or both None (any size that is a multiple of `multiple_of`;
    `halo` is the reach of the network in pixels, the overlap that tiles need).

    `resize` handles images of other sizes: "fit" keeps the aspect ratio and pads to the model's size, "exact"
    stretches, "reject" answers 422.
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
    """Handling of images of other sizes."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.height is None) != (self.width is None):
            raise ValueError(f"height={self.height} and width={self.width}: give both, or neither for any size")
        return self


class Metric(Frozen):
    """One measured figure, with the same figure of simpler methods."""

    name: str
    """Name of the figure."""
    task: Task
    """Measured task."""
    value: Finite
    """The figure."""
    unit: str
    """Unit of the figure."""
    data: str
    """Images used for the measurement."""
    higher_is_better: bool
    """Whether higher values are better."""
    baselines: dict[str, Finite]
    """The same figure of simpler methods, by name."""


class Golden(Frozen):
    """The self-test at load: a small input per task with its recorded output, `<task>.<tensor>` arrays in one NPZ.

    Another processor may round differently: outputs agree when |a - b| <= tolerance * (1 + |b|) everywhere.
    """

    file: FileName
    """NPZ file beside the manifest."""
    sha256: Sha256
    """SHA-256 of the file."""
    tolerance: Finite
    """Largest relative difference on another machine."""


class Manifest(Frozen):
    """Everything the service and a reader need to know about one model version."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this format."""
    name: Name
    """Model name."""
    version: PositiveInt
    """Model version."""
    created: datetime
    """Time of publication."""
    summary: str
    """One line for the card."""
    architecture: str
    """Name of the architecture."""
    default_for: tuple[Task, ...] = ()
    """Tasks for which the model is used if a request names none."""
    tasks: dict[Task, Graph]
    """One graph per task."""
    input: InputSpec
    """Input images of the graphs."""
    latent: Latent | None
    """The latent space; null without encode and decode."""
    examples: Examples | None = None
    """Points of the map of the latent space."""
    anomaly: Calibration | None
    """Calibration of the anomaly score."""
    noise: Noise | None = None
    """Noise levels of a denoiser with the input sigma."""
    enhance: Enhance | None = None
    """Scale and colour handling of `enhance`."""
    generate: Generate | None = None
    """The prior and its labels."""
    compression: Compression | None = None
    """Rates and tables of a model that compresses."""
    golden: Golden
    """Self-test data."""
    metrics: tuple[Metric, ...]
    """Measured figures with baselines."""
    provenance: Provenance
    """Data, recipe, command and cost of the training."""
    limits: tuple[str, ...]
    """Limits of the model, as sentences."""

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
            raise ValueError(f"default for {sorted(missing)}, which the model does not offer")
        return self

    def _check_tensors(self) -> None:
        for task, graph in self.tasks.items():
            names = (tuple(t.name for t in graph.inputs), tuple(t.name for t in graph.outputs))
            inputs, outputs = TENSORS_BY_TASK[task]
            more_inputs = inputs + OPTIONAL_INPUTS_BY_TASK.get(task, ())
            more_outputs = outputs + OPTIONAL_OUTPUTS_BY_TASK.get(task, ())
            if names[0] not in {inputs, more_inputs} or names[1] not in {outputs, more_outputs}:
                raise ValueError(f"{task}: tensors are {names}, the contract requires {TENSORS_BY_TASK[task]}")

    def _check_latents(self) -> None:
        if self.latent is None and {"encode", "decode"} & self.tasks.keys():
            raise ValueError("encode and decode need `latent`")
        if self.examples and any(len(z) != (self.latent.dim if self.latent else 0) for z in self.examples.latents):
            raise ValueError("the latents of `examples` do not have the size in `latent`")

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
                raise ValueError(f"the {task} task requires {name}, and the reverse")
        if (self.noise is None) == ("denoise" in self.tasks and len(self.tasks["denoise"].inputs) == 2):
            raise ValueError("the input sigma of denoise requires `noise`, and the reverse")

        measures = bool(self.anomaly and self.anomaly.learnt and "features" in self.anomaly.learnt.looks)
        if measures and "distance" not in {output.name for output in self.tasks["anomaly"].outputs}:
            raise ValueError("the statistic `features` of the training images requires the output distance")

    def _check_size(self) -> None:
        if (self.enhance or self.noise) and self.input.height is not None:
            raise ValueError("models with `enhance` or `noise` must take any size: height and width must be null")
        if self.enhance and self.enhance.luma_only and self.input.channels != 1:
            raise ValueError("luma_only requires one channel")
        if self.compression and (self.input.height is None) != (self.compression.grid is not None):
            raise ValueError("a model that compresses needs either a grid of symbols or one size (height and width)")
        if self.compression and self.compression.grid and (self.input.channels, self.input.multiple_of) != (1, CELL):
            raise ValueError(f"a grid of symbols requires one channel and multiple_of={CELL}")

    def _check_generate(self, graph: Graph, generate: Generate) -> None:
        if bool(generate.labels) != (len(graph.inputs) == 2):
            raise ValueError("the input label of generate requires `generate.labels`, and the reverse")
        if self.input.height is None:
            raise ValueError("a model that generates needs one size: height and width must be numbers")
        match graph.inputs[0].shape:
            case (str(), int() as dim) if dim <= MAX_NOISE_DIM:
                return
            case shape:
                raise ValueError(f"e has shape {list(shape)}; it must be (N, D) with D at most {MAX_NOISE_DIM}")
