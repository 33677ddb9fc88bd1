"""Sections of a manifest for certain kinds of models: noise, scale, prior, latents, calibration."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from service.contract.fields import Finite, Frozen, Share

MAX_EXAMPLES = 1000
_SHARES_TOLERANCE = 1e-3  # they may be written with few digits


class LevelEstimator(Frozen):
    """Estimator of the noise level with which the model restores an image best.

    A network of one hidden layer over `features` of `service/contract/noise.py`, fitted on pictures whose best level
    was known. With f the features of a tile and u its output, sigma = max(u, 0) ** 2 in 0-255 units, where

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


class Noise(Frozen):
    """The noise levels a denoiser was trained for: standard deviations in 0-255 units.

    A blind model has `untold`. For other models, `estimator` estimates the level. Without an estimator, it is the level
    of white noise, estimated from the finest differences.
    """

    min_sigma: Annotated[float, Field(ge=0.0, le=255.0)]
    """Weakest noise."""
    max_sigma: Annotated[float, Field(gt=0.0, le=255.0)]
    """Strongest noise."""
    estimator: LevelEstimator | None = None
    """Estimates the level if a request names none."""
    untold: Annotated[float, Field(lt=0.0, ge=-255.0)] | None = None
    """Sigma passed to a blind graph if a request names none."""

    @model_validator(mode="after")
    def _one_way_without_a_level(self) -> Self:
        if self.estimator is not None and self.untold is not None:
            raise ValueError("estimator and untold are two answers to one question: give one")
        return self


class Enhance(Frozen):
    """Enlargement. With `luma_only`, the graph takes the luma alone, full-range BT.601 in [0, 1]."""

    scale: Annotated[int, Field(ge=2, le=8)]
    """Factor on width and height."""
    luma_only: bool = False
    """The graph sees luma only; chroma is resized."""


class Generate(Frozen):
    """Labels of the fitted prior. The graph turns e (N, D), standard normal, into images.

    With `labels`, the second input of the graph is the label of each image, and `shares` are the frequencies of the
    labels among the training images. Without `labels`, images are drawn from the whole prior.
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


class Latent(Frozen):
    """The latent space: its size, and mean and standard deviation of each latent over the training images.

    `directions` are the principal directions of the training images' latents, unit vectors by falling variance, and
    `spread` is the standard deviation along each, for walks through the latent space. Both are optional.
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


class Examples(Frozen):
    """Latents and labels of some test images, for a map of the latent space."""

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


Extent = tuple[Finite, Finite]


class Learnt(Frozen):
    """Ranges of sizes and statistics of the training images, to detect images of another kind.

    `looks` are statistics of `service/contract/likeness.py`, measured on images at the model's size.
    """

    widths: tuple[PositiveInt, PositiveInt]
    """Minimum and maximum width of the files, in pixels."""
    heights: tuple[PositiveInt, PositiveInt]
    """Minimum and maximum height of the files, in pixels."""
    looks: dict[str, Extent]
    """Minimum and maximum of each statistic, by name."""

    @model_validator(mode="after")
    def _from_least_to_most(self) -> Self:
        for name, (least, most) in {"widths": self.widths, "heights": self.heights, **self.looks}.items():
            if least > most:
                raise ValueError(f"{name}: {least:g} to {most:g}; give the least first")
        return self


class Calibration(Frozen):
    """Anomaly scores of normal images that the model was not trained on, in ascending order.

    `threshold` is the smallest score whose conformal p-value, (1 + number of `scores` at or above it) / (n + 1),
    is at most `target_fpr`: about that share of normal images will be flagged. It lies just above one of the scores.

    `map_peaks` are the largest values of the maps of the same images, sorted separately. They set the value from which
    a position in a map is unusual. Empty if a model was calibrated without them.
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
    learnt: Learnt | None = None
    """Ranges of the training images; None if they were not recorded."""
    takes_nan: bool = False
    """Whether the graph ignores pixels that are NaN, for the field `ignore` of requests."""

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
