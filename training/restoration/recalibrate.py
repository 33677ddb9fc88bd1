"""`python -m training calibrate NAME --data photos/`: fit the estimator of the noise level for a published model.

The new version has the same graph, with a new estimator, its metric and a new card.
"""

import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import JsonValue
from tqdm import tqdm

from service.contract.manifest import Manifest
from service.contract.sections import Noise
from training.errors import DataError, RunError
from training.measure.pictures import SizedGraph
from training.publish import publish, write_card_and_manifest
from training.restoration.config import DegradationConfig, LevelConfig, PhotosConfig, RestorationRecipe
from training.restoration.level import noise_of
from training.restoration.photos import Photos, read_photos
from training.run import MODEL, RunDirectory
from training.verify import verify

HELD_OUT = 20  # pictures, at most a third
LEAST_SIDE = 16  # pixels; less says too little of noise


def recalibrate_level(version: Path, folder: Path, *, models: Path, command: str, progress: bool = True) -> Path:
    """Publish the next version of a model with an estimator fitted on these photographs, and return its directory.

    Args:
        version: Directory of a published model that takes the noise level.
        folder: Folder of photographs; every k-th is held out for the metric, or those that the training held out.
        models: Directory of published models.
        command: Command line, for the card.
        progress: Show progress bars.

    Raises:
        DataError: The pictures cannot be used.
        RunError: The model does not take a noise level.
        VerifyError, PublishError: The version is broken, or cannot be written.
    """
    old = verify(version)
    assert old.noise is not None  # noqa: S101  the caller has looked
    if old.noise.untold is not None:
        raise RunError(f"{old.name} needs no level: it decides alone, so there is nothing to calibrate")
    recipe = _recipe(old, old.noise)
    photos = photos_for(old, folder, progress=progress)
    with TemporaryDirectory() as home:
        run = RunDirectory(Path(home), old.name)
        directory = run.path(MODEL)
        shutil.copytree(version, directory)
        graph = SizedGraph((directory / old.tasks["denoise"].file).read_bytes(), old.input.multiple_of, 1)
        noise, metrics = noise_of(graph, photos, recipe, progress=progress)
        if noise.estimator is None:
            raise DataError(f"{folder}: all pictures are smaller than {LEAST_SIDE} pixels")
        new = {metric.name for metric in metrics}
        kept = tuple(metric for metric in old.metrics if metric.name not in new)
        update = {
            "created": datetime.now(UTC).replace(microsecond=0),
            "noise": noise.model_copy(update={"min_sigma": old.noise.min_sigma}),
            "metrics": (*kept, *metrics),
            "provenance": old.provenance.model_copy(update=_provenance(old, photos, recipe, command)),
        }
        write_card_and_manifest(directory, old.model_copy(update=update))
        verify(directory)
        target = publish(run, models)
    verify(target)
    for metric in metrics:
        beside = ", ".join(f"{name} {value:.2f}" for name, value in metric.baselines.items())
        tqdm.write(f"{metric.name} {metric.value:.2f}  (beside: {beside})")
    tqdm.write(f"published {target}")
    return target


def photos_for(old: Manifest, folder: Path, *, progress: bool) -> Photos:
    """Read photographs for calibration, in the parts of the training if they are those of the training.

    Raises:
        DataError: The pictures cannot be used.
    """
    read = partial(read_photos, folder, old.input.channels, least_side=LEAST_SIDE, progress=progress)
    photos = read(validation=HELD_OUT)
    if photos.sha256 != old.provenance.data.sha256:
        return photos
    config = PhotosConfig.model_validate(old.provenance.config.get("data", {}))
    return read(validation=config.validation, test=config.test)


def _recipe(old: Manifest, noise: Noise) -> RestorationRecipe:
    level = LevelConfig.model_validate(old.provenance.config.get("level", {}))
    return RestorationRecipe(
        kind="denoise",
        name=old.name,
        summary=old.summary,
        data=PhotosConfig(channels=old.input.channels),
        degradation=DegradationConfig(max_sigma=noise.max_sigma),
        level=level if level.patches else LevelConfig(),
    )


def _provenance(old: Manifest, photos: Photos, recipe: RestorationRecipe, command: str) -> dict[str, JsonValue]:
    read: dict[str, JsonValue] = {
        "data": photos.name,
        "images": photos.count,
        "sha256": photos.sha256,
        "patches": recipe.level.patches,
    }
    first = old.provenance.command.split(" && ", maxsplit=1)[0]  # made the graph; of calibrations the last one counts
    return {"config": {**old.provenance.config, "calibration": read}, "command": f"{first} && {command}"}
