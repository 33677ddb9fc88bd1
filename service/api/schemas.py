"""Schemas of queries and JSON answers. They validate requests and describe answers on the API page."""

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
    """A query that rejects unknown parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)  # one instance serves equal requests


class JobQuery(StrictQuery):
    """Option to run the request as a job with a webhook."""

    webhook: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="Run the request as a job and call this URL when it ends; see the setting webhook_hosts",
        ),
    ] = None


class ModelQuery(JobQuery):
    """Choice of the model."""

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
        """Layout of the values in the request's files."""
        return PLAIN


class ImageQuery(ModelQuery):
    """Choice of the model, and the URL of an image instead of a body."""

    image: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="URL of the image, instead of a body; its host must be in the setting image_hosts",
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
            description="Range of an NPY array or a TIFF of floats: the value of white, with black at 0, or `auto` "
            "for its minimum and maximum. The answer has the same range. Default: floats in [0, 1]"
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
        """Layout of the values in the request's files."""
        return Form(self.data_range, is_channels_last=self.layout == "hwc")


class DenoiseQuery(_RestorationQuery):
    """Choice of the model, noise level, and output options."""

    sigma: Annotated[
        float | None,
        Field(ge=0, le=255, description="Standard deviation of the noise, 0-255 units; estimated by default"),
    ] = None
    strength: Annotated[
        float, Field(ge=0, le=1, description="Blend of output and input: 1 returns the denoised image, 0 the input")
    ] = 1.0


class EnhanceQuery(_RestorationQuery):
    """Choice of the model, and output options."""


class AnomalyQuery(ImageQuery):
    """Choice of the model, false-positive rates, and kind of answer."""

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
        Field(description="Answer with an image: a heat map over the image, or the mask of the regions"),
    ] = None


class GenerateQuery(ModelQuery):
    """Choice of the model, and layout of the answer."""

    view: Annotated[Look, Field(description="Separate images, or all on one sheet")] = "images"


class InterpolateQuery(ModelQuery):
    """Choice of the model, number of images, path, and layout of the answer."""

    steps: Annotated[
        int,
        Field(ge=2, lt=10**6, description="Number of images, including both ends; at most max_images"),
    ] = 9
    path: Annotated[Way, Field(description="Linear interpolation, or an arc around the mean of the latents")] = "linear"
    view: Annotated[
        Literal["strip", "frames", "animation"] | None,
        Field(description="One strip, separate images in a ZIP or array, or an animation; default: by Accept"),
    ] = None


class CompressQuery(ImageQuery):
    """Choice of the model, and rate of the compression."""

    rate: Annotated[
        int | None,
        Field(ge=0, lt=256, description="Index of one of the model's rates, 0 for the smallest file. Default: the "
              "model's. `GET /models/{name}` lists them under `compression`"),
    ] = None  # fmt: skip


class DecompressQuery(JobQuery):
    """Output options. The file itself names its model."""

    quality: Annotated[int, Field(ge=1, le=100, description="Quality of a JPEG or WebP answer")] = 95


class VersionQuery(StrictQuery):
    """Choice of a model version."""

    version: Annotated[int | None, Field(ge=1, lt=10**9, description="Default: the newest that passed its checks")] = (
        None
    )


class Problem(BaseModel):
    """A problem document (RFC 9457). `detail` has the faulty value, and what would work."""

    type: Annotated[
        str, Field(description="Stable path of the explanation", json_schema_extra={"format": "uri-reference"})
    ]
    title: str
    status: int
    code: Annotated[str, Field(json_schema_extra={"enum": [*sorted(PROBLEMS)]})]
    detail: str
    request_id: Annotated[str | None, Field(description="Id of the request in the log, for errors 500")] = None
    source: Source = None


class LatentAnswer(BaseModel):
    """The latent of one image."""

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
    """A connected region of the anomaly map at or above `map_threshold`, in pixels of the image that was sent."""

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float


class Verdict(BaseModel):
    """The verdict on one image."""

    score: float
    verdict: Annotated[
        Literal["good", "review", "anomalous"],
        Field(
            description="anomalous: score >= threshold. review: score >= review_threshold, or the image differs "
            "from the training images. good: neither"
        ),
    ]
    is_anomalous: Annotated[bool, Field(description="score >= threshold")]
    p_value: Annotated[float, Field(description="Estimated share of normal images with at least this score; never 0")]
    unlike_training: Annotated[
        list[str],
        Field(
            description="Ways in which the image differs from the training images: size, brightness, contrast, "
            "sharpness. If there are any, the score is unreliable"
        ),
    ]
    map_threshold: Annotated[
        float | None,
        Field(
            description="Smallest map value of a region: the calibrated one, or halfway between median and peak of the "
            "map if an anomalous image does not reach that. Null for a normal image if the calibration has no map "
            "peaks"
        ),
    ]
    regions: Annotated[list[Region], Field(description="Largest first, at most 16; none if the image is normal")]


class CalibrationSize(BaseModel):
    """Size of the calibration, which limits the reachable false-positive rates."""

    images: Annotated[int, Field(description="Number of held-out normal images in the calibration")]
    smallest_fpr: Annotated[float, Field(description="Smallest false-positive rate that this many images can promise")]


class _Calibrated(BaseModel):
    model: str
    version: int
    threshold: Annotated[float, Field(description="Smallest score of an anomalous image")]
    review_threshold: Annotated[
        float, Field(description="Smallest score that needs review; equal to `threshold` without `review_fpr`")
    ]
    max_fpr: Annotated[float, Field(description="Share of normal images flagged: as requested, or the model's")]
    calibration: CalibrationSize
    resize: Resize = None
    source: Source = None


class AnomalyAnswer(_Calibrated, Verdict):
    """The verdict on one image."""


class AnomaliesAnswer(_Calibrated):
    """The verdicts on an array of several images, with thresholds."""

    results: list[Verdict]


class ModelSummary(BaseModel):
    """A live model."""

    name: str
    version: int
    versions: Annotated[list[int], Field(description="All versions on disk; choose one with ?version=")]
    summary: str
    tasks: list[Task]
    default_for: Annotated[list[Task], Field(description="Tasks for which it is the default")]
    input: InputSpec
    latent_dim: int | None
    metrics: tuple[Metric, ...]


class LiveModel(BaseModel):
    """A live model version."""

    name: str
    version: int
    tasks: list[Task]


class RejectedModel(BaseModel):
    """A model version that failed its checks."""

    name: str
    version: int
    reason: str


class Readiness(BaseModel):
    """Live and rejected model versions, and the resources of the service."""

    status: Literal["ready"]
    device: Annotated[str, Field(description="The setting `device`")]
    provider: Annotated[str, Field(description="Execution provider of onnxruntime in use")]
    cores: Annotated[float, Field(description="Number of usable cores, by affinity and cgroup quota")]
    workers: Annotated[int, Field(description="Number of worker processes")]
    threads: Annotated[int, Field(description="Threads inside one inference")]
    models: list[LiveModel]
    rejected: list[RejectedModel]


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"]
