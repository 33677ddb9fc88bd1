"""4. The denoising figure: the textbook's network, the best linear map, and ours."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from service.contract.manifest import Task
from training.charts import lines
from training.config import CorruptionConfig
from training.graphs import Denoise
from training.images.corruptions import corrupt
from training.images.pixels import to_pixels
from training.markdown import table
from training.measure.baselines import median_filter, reduced_rank_regression
from training.measure.psnr import TEST_NOISE_SEED, mean_squared_error, psnr_db
from training.picture import rows_of_images
from training.textbook.study import Study

MEAN, SIGMA = 0.5, 0.4  # the textbook's noise: clamp(x + N(0.5, 0.4), 0, 1)
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # times both
SHOWN = 10
SHIPPED: dict[str, tuple[str, Task]] = {
    "ours, 32 latents (`digits`)": ("digits", "denoise"),
    "ours, U-Net (`digits-unet`)": ("digits-unet", "denoise"),
}


def denoising(study: Study) -> str:
    """Write the section: original, noisy and denoised images, and errors over the strength of the noise."""
    since_s = study.spent_s()
    trained = study.train("textbook", "textbook", epochs=5, quick_epochs=10)
    linear = reduced_rank_regression(study.data.train, _noise(1.0), 32, progress=study.progress)
    methods: dict[str, Callable[[Tensor], Tensor]] = {
        "unprocessed": lambda x: x,
        "median 3x3": median_filter,
        "best linear map of rank 32": lambda x: linear(x).clamp(0.0, 1.0),
        "the textbook's network": Denoise(trained.model),
    }
    for name, (model, task) in SHIPPED.items():
        if (graph := study.shipped(model, task)) is not None:
            methods[name] = graph
    images = study.data.test
    errors = {name: mean_squared_error(method, images, _noise(1.0)) for name, method in methods.items()}
    rows = [[name, f"{error:.4f}", f"{psnr_db(error):.2f}"] for name, error in errors.items()]
    x = to_pixels(images[:SHOWN])
    x_noisy = corrupt(x, _noise(1.0), Generator().manual_seed(TEST_NOISE_SEED))
    with torch.no_grad():
        shown = {_short(name): method(x_noisy).clamp(0.0, 1.0) for name, method in methods.items()}
    picture = study.figure(
        "denoising", rows_of_images({"original": x, **shown}),
        "The first test digits: original, noisy, and what each method makes of it.", since_s,
    )  # fmt: skip
    return "\n\n".join(
        [
            "## 4. Denoising",
            "The noise is the textbook's: a normal number of mean 0.5 and standard deviation 0.4 is added to every pixel, and the "
            "result is clipped to [0, 1]. Its network is 784-128-64-32-64-128-784, trained for 5 epochs with Adam. The best linear "
            "map of rank 32 is computed in closed form.",
            table(["method", "test error (MSE)", "PSNR of it, dB"], rows),
            picture,
            _over_strength(study, methods),
        ]
    )


def _over_strength(study: Study, methods: dict[str, Callable[[Tensor], Tensor]]) -> str:
    since_s = study.spent_s()
    images = study.data.test[: 100 if study.is_quick else 2000]
    series = {
        _short(name): [(s, mean_squared_error(method, images, _noise(s))) for s in STRENGTHS]
        for name, method in methods.items()
    }
    chart = lines(series, x_label="strength, times the textbook's noise", y_label="mean squared error", log_y=True)
    return "\n\n".join(
        [
            "All of them were trained for strength 1. The next figure shows how well they generalise to weaker and stronger noise. "
            "(One in seven training images of `digits` was clean.)",
            study.figure(
                "denoising-strength",
                chart,
                f"Error over the strength of the noise, {len(images):,} test images.",
                since_s,
            ),
        ]
    )


def _noise(strength: float) -> CorruptionConfig:
    if strength == 0.0:
        return CorruptionConfig(name="none")
    return CorruptionConfig(name="gaussian", options={"mean": MEAN * strength, "sigma": SIGMA * strength})


def _short(name: str) -> str:
    return {
        "unprocessed": "noisy", "best linear map of rank 32": "linear", "the textbook's network": "textbook",
        "ours, 32 latents (`digits`)": "digits", "ours, U-Net (`digits-unet`)": "digits-unet",
    }.get(name, name)  # fmt: skip
