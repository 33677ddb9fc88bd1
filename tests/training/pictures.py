"""Small fits over pictures, as a user would start them."""

from pathlib import Path

from service.contract.manifest import Manifest
from service.contract.version import manifest_of
from training.__main__ import main
from training.recipe import load_recipe
from training.restoration.config import RestorationRecipe

QUICK = ("training.steps=6", "training.batch_size=4", "training.patch=16", "training.validate_every=3")
TINY = ("network.widths=[8, 8]", "network.blocks=[1, 1]", "data.validation=2", "level.patches=4")


def recipe(kind: str, *overrides: str) -> RestorationRecipe:
    found = load_recipe(kind, (*QUICK, *TINY, *overrides))
    assert isinstance(found, RestorationRecipe)
    return found


def fit(tmp_path: Path, *arguments: str) -> int:
    places = ("--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models"), "--device", "cpu", "--quiet")
    return main(["fit", arguments[0], *QUICK, *TINY, *arguments[1:], *places, "--threads", "1"])


def published(tmp_path: Path, name: str, version: int = 1) -> tuple[Manifest, Path]:
    directory = tmp_path / "models" / name / str(version)
    return manifest_of(directory), directory
