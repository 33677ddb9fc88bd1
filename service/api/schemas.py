"""The queries and the JSON answers, as types: they check what comes in and describe what goes out on the API page."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.contract.manifest import InputSpec, Metric, Task
from service.errors import PROBLEMS
from service.images.form import PLAIN, Form
from service.models.aliases import MAX_REFERENCE
from service.tasks.generate import Look
from service.tasks.interpolate import Way

Resize = Annotated[str | None, Field(description="Resizing applied; absent if none")]
Source = Annotated[str | None, Field(description="Name of the file; only if several files of a form have names")]


class StrictQuery(BaseModel):
    """A query in which an unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)  # one instance serves equal requests


class JobQuery(StrictQuery):
    """Whether the request becomes a job, and who is told of its end."""

    webhook: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="Makes the request a job, and calls this URL at its end; see the setting webhook_hosts",
        ),
    ] = None


class ModelQuery(JobQuery):
    """Which model answers."""

    model: Annotated[
        str | None,
        Field(
            max_length=MAX_REFERENCE,
            description="Name of the model, or `<model>@<alias>`; default: the default of the task",
        ),
    ] = None
    version: Annotated[
        int | None,
        Field(ge=1, lt=10**9, description="Version of the model; default: the newest that passed its checks"),
    ] = None

    @property
    def form(self) -> Form:
        """How the files of the request are laid out."""
        return PLAIN


class ImageQuery(ModelQuery):
    """Which model answers, and where the image is if not in the body."""

    image: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="Address of the image, instead of a body; only of hosts in the setting image_hosts",
        ),
    ] = None


class _FileQuery(ImageQuery):
    quality: Annotated[int, Field(ge=1, le=100, description="Quality of a JPEG or WebP answer")] = 95
    metadata: Annotated[
        Literal["drop", "keep"],
        Field(description="Whether to copy EXIF data (camera, time, place) into the answer"),
    ] = "drop"


class _RestorationQuery(_FileQuery):
    data_range: Annotated[
        Annotated[float, Field(gt=0, lt=1e30)] | Literal["auto"] | None,
        Field(
            description="Range of an NPY array or a TIFF of floats: the value of white where black is 0, or `auto` "
            "for its smallest and largest value. The answer has the same range. Default: floats in [0, 1]"
        ),
    ] = None
    layout: Annotated[
        Literal["chw", "hwc"],
        Field(description="Axes of an NPY array: channels first, or last as in OpenCV and Pillow"),
    ] = "chw"
    thorough: Annotated[
        bool,
        Field(
            description="Average over the eight rotations and reflections of the image: slightly better, eight times "
            "slower"
        ),
    ] = False

    @property
    def form(self) -> Form:
        """How the files of the request are laid out."""
        return Form(self.data_range, is_channels_last=self.layout == "hwc")


class DenoiseQuery(_RestorationQuery):
    """Which model answers, how noisy the image is, and how the result is written."""

    sigma: Annotated[
        float | None,
        Field(ge=0, le=255, description="Standard deviation of the noise, 0-255 units; estimated by default"),
    ] = None
    strength: Annotated[
        float, Field(ge=0, le=1, description="1 returns the clean image, 0 the input, values between them a blend")
    ] = 1.0


class EnhanceQuery(_RestorationQuery):
    """Which model answers, and how the result is written."""


class AnomalyQuery(ImageQuery):
    """Which model answers, how often it may cry wolf, and what one wants to see."""

    max_fpr: Annotated[
        float | None,
        Field(gt=0, lt=1, description="Share of normal images that may be flagged; moves both thresholds"),
    ] = None
    review_fpr: Annotated[
        float | None,
        Field(
            gt=0, lt=1, description="Share of normal images that may be flagged or put up for review; above `max_fpr`"
        ),
    ] = None
    view: Annotated[
        Literal["heatmap", "mask"] | None,
        Field(description="A picture instead of the verdict: the heat map over the image, or the mask of the regions"),
    ] = None


class GenerateQuery(ModelQuery):
    """Which model answers, and what the answer looks like."""

    view: Annotated[Look, Field(description="Separate images, or all of them in one picture")] = "images"


class InterpolateQuery(ModelQuery):
    """Which model answers, how many images there are, and on which way."""

    steps: Annotated[
        int, Field(ge=2, lt=10**6, description="Number of images, both ends included; at most max_images")
    ] = 9
    path: Annotated[Way, Field(description="Straight line, or arc around the mean of the latents")] = "linear"
    view: Annotated[
        Literal["strip", "frames", "animation"] | None,
        Field(description="One picture, separate images in a ZIP or array, or an animation; default: by Accept"),
    ] = None


class CompressQuery(ImageQuery):
    """Which model answers, and how small the file becomes."""

    rate: Annotated[
        int | None,
        Field(ge=0, lt=256, description="Index of one of the model's rates, 0 for the smallest file. Default: the "
              "model's. `GET /models/{name}` lists them under `compression`"),
    ] = None  # fmt: skip


class DecompressQuery(JobQuery):
    """How the images are written. The file itself names its model."""

    quality: Annotated[int, Field(ge=1, le=100, description="Quality of a JPEG or WebP answer")] = 95


class VersionQuery(StrictQuery):
    """Which version of a model."""

    version: Annotated[int | None, Field(ge=1, lt=10**9, description="Default: the newest that passed its checks")] = (
        None
    )


class Problem(BaseModel):
    """What happened, with which value, and what would work (RFC 9457)."""

    type: Annotated[
        str, Field(description="Stable; GET it for an explanation", json_schema_extra={"format": "uri-reference"})
    ]
    title: str
    status: int
    code: Annotated[str, Field(json_schema_extra={"enum": [*sorted(PROBLEMS)]})]
    detail: str
    request_id: Annotated[str | None, Field(description="In a 500: the id in the log")] = None
    source: Source = None


class LatentAnswer(BaseModel):
    """One image's latent."""

    model: str
    version: int
    latent: list[float]
    resize: Resize = None
    source: Source = None


class LatentsAnswer(BaseModel):
    """The latents of an array of several images."""

    model: str
    version: int
    latents: list[list[float]]
    resize: Resize = None
    source: Source = None


class Region(BaseModel):
    """A connected part of the anomaly map from `map_threshold` on; pixels of the sent image."""

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float


class Verdict(BaseModel):
    """What one image looks like to the model."""

    score: float
    verdict: Annotated[
        Literal["good", "review", "anomalous"],
        Field(
            description="anomalous: score >= threshold. review: score >= review_threshold, or the image is unlike "
            "the training images. good: neither"
        ),
    ]
    is_anomalous: Annotated[bool, Field(description="score >= threshold")]
    p_value: Annotated[float, Field(description="Share of normal images that look at least this unusual; never 0")]
    unlike_training: Annotated[
        list[str],
        Field(
            description="How the image is unlike the training images: size, brightness, contrast, sharpness. Its "
            "score is then unreliable"
        ),
    ]
    map_threshold: Annotated[
        float | None,
        Field(
            description="Map value from which a place is unusual: as calibrated, or half way from the map's median "
            "to its peak if the image is anomalous and its map stays below that. Null for a normal image if the "
            "calibration has no map peaks"
        ),
    ]
    regions: Annotated[list[Region], Field(description="Largest first, at most 16; none if the image is normal")]


class CalibrationSize(BaseModel):
    """How sure one can be of a verdict."""

    images: Annotated[int, Field(description="Number of held-out normal images in the calibration")]
    smallest_fpr: Annotated[
        float, Field(description="The smallest false-positive rate that this many images can promise")
    ]


class _Calibrated(BaseModel):
    model: str
    version: int
    threshold: Annotated[float, Field(description="The score from which an image is anomalous")]
    review_threshold: Annotated[
        float, Field(description="The score from which an image needs review; `threshold` without `review_fpr`")
    ]
    max_fpr: Annotated[float, Field(description="Share of normal images that it flags: as requested, or the model's")]
    calibration: CalibrationSize
    resize: Resize = None
    source: Source = None


class AnomalyAnswer(_Calibrated, Verdict):
    """The verdict on one image."""


class AnomaliesAnswer(_Calibrated):
    """The verdicts on an array of several images."""

    results: list[Verdict]


class ModelSummary(BaseModel):
    """One model that is live."""

    name: str
    version: int
    versions: Annotated[list[int], Field(description="All versions on disk; name one with ?version=")]
    summary: str
    tasks: list[Task]
    default_for: Annotated[list[Task], Field(description="Tasks for which it is the default")]
    input: InputSpec
    latent_dim: int | None
    metrics: tuple[Metric, ...]


class LiveModel(BaseModel):
    """A model version that answers."""

    name: str
    version: int
    tasks: list[Task]


class RejectedModel(BaseModel):
    """A version that is on disk and does not answer."""

    name: str
    version: int
    reason: str


class Readiness(BaseModel):
    """What answers, where it runs, and what does not answer and why."""

    status: Literal["ready"]
    device: Annotated[str, Field(description="The setting")]
    provider: Annotated[str, Field(description="The onnxruntime execution provider in use")]
    cores: Annotated[float, Field(description="Cores that may be used, by affinity and cgroup quota")]
    workers: Annotated[int, Field(description="Number of worker processes")]
    threads: Annotated[int, Field(description="Threads inside one inference")]
    models: list[LiveModel]
    rejected: list[RejectedModel]


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"]
