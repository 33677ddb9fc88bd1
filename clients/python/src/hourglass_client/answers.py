"""Types of answers."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hourglass_client.arrays import SERVICE_ORDER, ArrayOrder
from hourglass_client.folders import write_whole

NPY_TYPE = "application/x-npy"
HOURGLASS_TYPE = "application/vnd.hourglass"  # a file of /compress


@dataclass(frozen=True)
class Picture:
    """An image or an array as the service sent it.

    Attributes:
        content: The file.
        media_type: Media type of `content`: image/png, application/x-npy, application/zip ...
        model: "name/version" of the model.
        resize: Resizing applied by the service, or None.
        seed: Seed that reproduces a generated picture, or None.
        order: Order of the axes and channels of `array`.
    """

    content: bytes
    media_type: str
    model: str | None = None
    resize: str | None = None
    seed: int | None = None
    order: ArrayOrder = SERVICE_ORDER

    def __repr__(self) -> str:
        by = f", by {self.model}" if self.model else ""
        return f"<Picture {self.media_type}, {len(self.content)} bytes{by}>"

    def _repr_png_(self) -> bytes | None:
        """Return the PNG that a notebook shows; None if this is not an image."""
        if self.media_type == "image/png" or not self.media_type.startswith("image/"):
            return self.content if self.media_type == "image/png" else None
        file = io.BytesIO()
        self.pil().save(file, "PNG")
        return file.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the bytes unchanged; the name does not change the format."""
        write_whole(path, self.content)

    def pil(self) -> Image.Image:
        """Return a Pillow image."""
        picture = Image.open(io.BytesIO(self.content))
        picture.load()
        return picture

    def array(self) -> NDArray[Any]:
        """Return an array: uint8 or uint16 for an image, the sent dtype for NPY.

        (H, W), (C, H, W) or (N, C, H, W), RGB, unless the client has another order of arrays.
        """
        if self.media_type == NPY_TYPE:
            array: NDArray[Any] = np.load(io.BytesIO(self.content), allow_pickle=False)
            return self.order.from_service(array)
        values = np.asarray(self.pil())
        return values if values.ndim == 2 else self.order.from_service(np.moveaxis(values, 2, 0))


@dataclass(frozen=True)
class Latent:
    """The latent of an image: float32, (D,), or (N, D) for several."""

    values: NDArray[np.float32]
    model: str

    def __repr__(self) -> str:
        return f"<Latent {self.values.shape}, by {self.model}>"


@dataclass(frozen=True)
class Region:
    """A connected part of the image that is unusual; pixels of the image."""

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float


@dataclass(frozen=True)
class Verdict:
    """The anomaly verdict on an image.

    Attributes:
        score: Anomaly score of the model.
        threshold: Score from which an image is anomalous.
        is_anomalous: `score >= threshold`.
        p_value: Share of calibration images with at least this score, including this image.
        regions: The most unusual parts, largest first; none if it is normal.
        model: "name/version".
        max_fpr: The share of normal images that are flagged at this threshold.
        map_threshold: Map value from which a position is unusual; None if it is not calibrated.
        calibration_images: Number of normal images of the calibration.
        smallest_fpr: Smallest `max_fpr` that these images can guarantee.
        verdict: "good", "review" or "anomalous".
        unlike_training: Differences in kind from the training images, which make the score unreliable.
    """

    score: float
    threshold: float
    is_anomalous: bool
    p_value: float
    regions: tuple[Region, ...]
    model: str
    max_fpr: float
    map_threshold: float | None
    calibration_images: int
    smallest_fpr: float
    verdict: str
    unlike_training: tuple[str, ...] = ()

    def __repr__(self) -> str:
        word = "anomalous" if self.is_anomalous else "normal"
        found = f"{len(self.regions)} region{'s' * (len(self.regions) != 1)}"
        return f"<Verdict {word}, score {self.score:.4g}, p = {self.p_value:.2g}, {found}, by {self.model}>"


@dataclass(frozen=True)
class Neighbour:
    """An item of a collection near an image; `distance` is Euclidean, between latents."""

    id: str
    distance: float
    label: str | None
    metadata: Mapping[str, Any] | None  # Any: JSON


@dataclass(frozen=True)
class Classification:
    """The classification of an image by its neighbours.

    Attributes:
        label: The most confident one.
        confidence: Its share of the vote.
        labels: Share of every label among the votes, largest first.
        neighbours: The neighbours that voted.
    """

    label: str
    confidence: float
    labels: Mapping[str, float]
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Model:
    """A live model. `document` is its full entry in `GET /models`."""

    name: str
    version: int
    tasks: tuple[str, ...]
    summary: str
    document: Mapping[str, Any]  # Any: JSON

    def __repr__(self) -> str:
        return f"<Model {self.name}/{self.version}: {', '.join(self.tasks)}>"


@dataclass(frozen=True)
class Alias:
    """An alias `<model>@<name>` and its versions.

    Attributes:
        version: The version that answers.
        candidate: A version that answers a `share` of the pictures, or None.
        shadow: A version whose answers are only compared, or None.
        former: The version that a rollback returns to, or None.
    """

    model: str
    name: str
    version: int
    candidate: int | None
    share: float
    shadow: int | None
    former: int | None

    def __repr__(self) -> str:
        candidate = f", {self.share:.0%} to {self.candidate}" if self.candidate is not None else ""
        shadow = f", shadow {self.shadow}" if self.shadow is not None else ""
        return f"<Alias {self.model}@{self.name}: version {self.version}{candidate}{shadow}>"


def alias_of(document: Mapping[str, Any]) -> Alias:
    """Return one alias from the service's JSON."""
    names = ("version", "candidate", "share", "shadow", "former")
    return Alias(document["model"], document["alias"], *(document[name] for name in names))


def verdict_of(document: Mapping[str, Any]) -> Verdict:
    """Parse a verdict; unknown members are ignored."""
    names = Region.__dataclass_fields__
    regions = (Region(**{name: region[name] for name in names}) for region in document["regions"])
    return Verdict(
        score=document["score"],
        threshold=document["threshold"],
        is_anomalous=document["is_anomalous"],
        p_value=document["p_value"],
        regions=tuple(regions),
        model=f"{document['model']}/{document['version']}",
        max_fpr=document["max_fpr"],
        map_threshold=document["map_threshold"],
        calibration_images=document["calibration"]["images"],
        smallest_fpr=document["calibration"]["smallest_fpr"],
        verdict=document.get("verdict", "anomalous" if document["is_anomalous"] else "good"),  # of older services
        unlike_training=tuple(document.get("unlike_training", ())),
    )


def neighbours_of(document: Mapping[str, Any]) -> tuple[Neighbour, ...]:
    """Parse the neighbours of an answer; unknown members are ignored."""
    names = Neighbour.__dataclass_fields__
    return tuple(Neighbour(**{name: found[name] for name in names}) for found in document["neighbours"])


def classification_of(document: Mapping[str, Any]) -> Classification:
    """Parse an answer of `classify`."""
    labels = {entry["label"]: entry["confidence"] for entry in document["labels"]}
    return Classification(document["label"], document["confidence"], labels, neighbours_of(document))


def model_of(document: Mapping[str, Any]) -> Model:
    """Parse an entry of `GET /models`."""
    return Model(document["name"], document["version"], tuple(document["tasks"]), document["summary"], document)
