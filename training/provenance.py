"""How a model was made, for its manifest."""

from typing import Any

import torch

from service.contract.manifest import Data, Provenance, Split, Start
from training.compression.config import CompressionRecipe
from training.config import Recipe
from training.data import UNSTATED
from training.photocodec.config import PhotoCodecRecipe
from training.restoration.config import RestorationRecipe
from training.restoration.photos import Photos


def provenance_of(
    recipe: Recipe | RestorationRecipe | CompressionRecipe | PhotoCodecRecipe,
    report: dict[str, Any],
    data: Data,
    *,
    command: str,
    commit: str,
    start: Start | None = None,
) -> Provenance:
    """What trained a model.

    Args:
        recipe: Its recipe.
        report: `report.json` of the run: what the training took, and on what device.
        data: The images.
        command: What makes it again.
        commit: Of this code.
        start: What the training began with.
    """
    taken = {name: report[name] for name in ("device", "parameters", "images_seen", "wall_s", "cpu_s")}
    return Provenance(
        data=data,
        seed=recipe.training.seed,
        config=recipe.model_dump(mode="json"),
        command=command,
        start=start,
        commit=commit,
        torch_version=torch.__version__,
        **taken,
    )


def data_of(photos: Photos, licence: str) -> Data:
    """Photographs as a manifest names them."""
    return Data(
        name=photos.name,
        source=f"a folder of {photos.count} pictures",
        licence=licence or UNSTATED,
        sha256=photos.sha256,
        images=photos.count,
        # Training watches the pictures that were kept back, and settings are compared by them: that is validation.
        split=Split(train=len(photos.train), validation=len(photos.validation), calibration=0, test=0),
    )
