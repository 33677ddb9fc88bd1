"""Metrics of an exported graph on held-out photographs, with baselines."""

from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from service.contract.manifest import Metric
from training.architectures.restorer import SIGMA_UNIT
from training.images.pixels import to_pixels
from training.measure.baselines import median_filter
from training.measure.metrics import METRICS
from training.measure.psnr import TEST_NOISE_SEED, hidden_error
from training.randomness import generator_for
from training.restoration.blind import mean_of_neighbours
from training.restoration.config import RestorationRecipe
from training.restoration.degradations import through_jpeg
from training.restoration.patches import UNTOLD, prepare, resized
from training.restoration.photos import Pair, Photos

SIGMAS = (15.0, 25.0, 50.0)  # 0-255 units
QUALITIES = (10, 30, 50)  # of JPEG, as libjpeg counts
HALVED = 2  # Pillow's name of 4:2:0
# From full-range luma to that of ITU-R BT.601 with 219 steps, on which the literature on enlarging measures.
STUDIO_DB = 20 * np.log10(255 / 219)

Image = Float[Tensor, "1 _ _ _"]  # (1, C, H, W)
Restore = Callable[[Image, float], Image]


class SizedGraph:
    """An exported graph as a function of one image of any size, padded as the service does."""

    def __init__(self, graph: bytes, multiple_of: int, scale: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._inputs = [tensor.name for tensor in self.session.get_inputs()]
        self._multiple_of, self._scale = multiple_of, scale

    def __call__(self, x: Image, sigma: float) -> Image:
        """Return the restored picture, (1, C, scale * H, scale * W)."""
        height, width = x.shape[2:]
        padding = ((0, 0), (0, 0), (0, -height % self._multiple_of), (0, -width % self._multiple_of))
        feed: dict[str, NDArray[np.float32]] = {"x": np.pad(x.numpy(), padding, mode="reflect")}
        if "sigma" in self._inputs:
            feed["sigma"] = np.full(1, sigma, np.float32)
        answer = np.asarray(self.session.run(None, feed)[0], np.float32)
        return torch.from_numpy(answer[:, :, : height * self._scale, : width * self._scale])


def thorough(restore: Restore) -> Restore:
    """Wrap a function to average over all orientations of the image, as the service does with `thorough=true`."""

    def mean(x: Image, sigma: float) -> Image:
        answers = []
        for mirrored in (False, True):
            for turns in range(4):
                turned = torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1))
                x_hat = torch.rot90(restore(turned.contiguous(), sigma), -turns, (-2, -1))
                answers.append(x_hat.flip(-1) if mirrored else x_hat)
        return torch.stack(answers).mean(0)

    return mean


def noisy_pairs(pairs: tuple[Pair, ...], recipe: RestorationRecipe, sigma: float) -> Iterator[tuple[Image, Image]]:
    """Yield input and target of every picture, with the same noise at every call."""
    generator = generator_for(TEST_NOISE_SEED, int(sigma))
    for pair in pairs:
        made = prepare(pair, recipe)
        if made is None:
            continue
        x_in, x = (to_pixels(photo)[None] for photo in made)
        if recipe.kind == "denoise":
            x_in = x_in + torch.randn(x_in.shape, generator=generator) * (sigma / SIGMA_UNIT)
        yield x_in, x


def means(restore: Restore, pairs: tuple[Pair, ...], recipe: RestorationRecipe, sigma: float) -> dict[str, float]:
    """Return the mean of every metric over the pictures; a border of `scale` pixels is cropped from enlarged ones."""
    values = []
    for x_in, x in noisy_pairs(pairs, recipe, sigma):
        x_hat = restore(x_in, sigma)
        edge = recipe.factor if recipe.factor > 1 else 0
        inner = (..., slice(edge, x.shape[2] - edge), slice(edge, x.shape[3] - edge))
        values.append([metric.of(x_hat[inner], x[inner]) for metric in METRICS.values()])
    return dict(zip(METRICS, np.mean(values, axis=0).tolist(), strict=True))


def bicubic(x: Image, scale: int) -> Image:
    """Enlarge pictures by Pillow's bicubic filter."""
    height, width = (side * scale for side in x.shape[2:])
    return to_pixels(resized((x[0] * SIGMA_UNIT).round().byte(), height, width))[None]


def baselines(recipe: RestorationRecipe) -> dict[str, Restore]:
    """Return the baselines for the recipe's task, by name."""
    if recipe.kind == "enhance":
        return {"bicubic": lambda x, _: bicubic(x, recipe.scale)}
    return {"unprocessed": lambda x, _: x, "median 3x3": lambda x, _: median_filter(x)}


def measure(graph: Restore, photos: Photos, recipe: RestorationRecipe) -> tuple[Metric, ...]:
    """Measure the graph and the baselines on the test pictures, or on the validation pictures if there are none."""
    pairs, part = photos.measured
    if recipe.kind == "blind":
        return (_of_hidden_pixels(graph, photos),)
    sigmas = SIGMAS if recipe.kind == "denoise" else (0.0,)
    metrics = []
    for sigma in sigmas:
        noise = f", Gaussian noise of {sigma:g}" if recipe.kind == "denoise" else ""
        value = means(graph, pairs, recipe, sigma)
        beside = {name: means(function, pairs, recipe, sigma) for name, function in baselines(recipe).items()}
        metrics += [
            Metric(
                name=f"{recipe.task}_{key}{f'_sigma_{sigma:g}' if recipe.kind == 'denoise' else ''}",
                task=recipe.task,
                value=value[key],
                unit=metric.unit,
                data=f"{len(pairs)} {part} pictures of {photos.name}{noise}",
                higher_is_better=True,
                baselines={name: values[key] for name, values in beside.items()},
            )
            for key, metric in METRICS.items()
        ]
    if recipe.degradation.untold:
        metrics += _blind(graph, pairs, recipe, data=f"{len(pairs)} {part} pictures of {photos.name}")
    return tuple(metrics)


def _blind(graph: Restore, pairs: tuple[Pair, ...], recipe: RestorationRecipe, *, data: str) -> Iterator[Metric]:
    """Measure the network without a noise level, compared with the true level, and on JPEG files."""

    def alone(x: Image, _: float) -> Image:
        return graph(x, UNTOLD)

    def figure(name: str, value: float, of: str, baselines: dict[str, float]) -> Metric:
        return Metric(
            name=f"denoise_psnr_db_{name}", task="denoise", value=value, unit="dB, mean over pictures",
            data=f"{data}, {of}", higher_is_better=True, baselines=baselines,
        )  # fmt: skip

    for sigma in SIGMAS:
        told = {"told the level": means(graph, pairs, recipe, sigma)["psnr_db"]}
        of = f"Gaussian noise of {sigma:g}, level not told"
        yield figure(f"untold_{sigma:g}", means(alone, pairs, recipe, sigma)["psnr_db"], of, told)
    psnr = METRICS["psnr_db"].of
    for quality in QUALITIES:
        files = [(through_jpeg(x[0], quality, HALVED)[None], x) for _, x in noisy_pairs(pairs, recipe, 0.0)]
        free = {"unprocessed": float(np.mean([psnr(x_in, x) for x_in, x in files]))}
        value = float(np.mean([psnr(alone(x_in, 0.0), x) for x_in, x in files]))
        yield figure(f"jpeg_{quality}", value, f"JPEG of quality {quality} in 4:2:0", free)


def _of_hidden_pixels(graph: Restore, photos: Photos) -> Metric:
    pairs, part = photos.measured
    functions = {"graph": lambda x: graph(x, 0.0), "mean of the eight around it": mean_of_neighbours}
    errors = {
        label: float(
            np.mean([hidden_error(f, to_pixels(pair.clean)[None], generator_for(TEST_NOISE_SEED, 0)) for pair in pairs])
        )
        for label, f in functions.items()
    }
    return Metric(
        name="denoise_hidden_pixel_mse",
        task="denoise",
        value=errors.pop("graph"),
        unit="mse, with the noise of those pixels in it",
        data=f"{len(pairs)} noisy {part} pictures of {photos.name}; no clean ones are known",
        higher_is_better=False,
        baselines=errors,
    )
