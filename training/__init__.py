"""From folders of images to published models, offline and with PyTorch.

    from pathlib import Path
    from training import Sources, fit, load_recipe, open_model

    directory = fit(load_recipe("images", ("training.epochs=3",)), Sources(data=Path("my_photos")), name="mine")
    model = open_model(directory)
    x_hat = model.run("denoise", model.read("my_photos/one.jpg"))["x_hat"]

`python -m training` is a thin shell over these functions. They are imported when they are first used: PyTorch takes
seconds.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# onnxruntime would report to its maker, and keep an id of the machine at home. It looks when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from training.problems.problem import Places
    from training.published import Published, open_model
    from training.recipe import load_recipe, recipe_names
    from training.run import Sources
    from training.stages import calibrate, fit

__all__ = ["Places", "Published", "Sources", "calibrate", "fit", "load_recipe", "open_model", "recipe_names"]

_MODULE_BY_NAME = {
    "Places": "training.problems.problem",
    "Published": "training.published",
    "Sources": "training.run",
    "calibrate": "training.stages",
    "fit": "training.stages",
    "load_recipe": "training.recipe",
    "open_model": "training.published",
    "recipe_names": "training.recipe",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module 'training' has no attribute {name!r}")
    return getattr(import_module(_MODULE_BY_NAME[name]), name)
