"""2. PCA: the subspace of a linear autoencoder, and the lower error of a nonlinear one."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from torch import Tensor

from training.architectures.linear import LinearAutoencoder
from training.charts import lines
from training.images.pixels import to_pixels
from training.markdown import table
from training.measure.psnr import mean_squared_error
from training.picture import rows_of_images
from training.textbook.study import CONVOLUTIONAL, Study, Trained

SHOWN = 8  # eigendigits
COMPARED, QUICKLY_COMPARED = (2, 8, 32), (2, 8)
SIZES, QUICK_SIZES = (2, 4, 8, 16, 32, 64, 128), (2, 8, 32)
# Weight matrices by Muon, biases by Adam at a high rate: digits are far from zero in the mean, and until the biases have
# learned it, one latent is spent on it.
LINEAR = (
    "corruption.name=none", "corruption.options={}", "training.optimiser=muon", "training.learning_rate=3e-2",
    "training.batch_size=512",
)  # fmt: skip


def pca(study: Study) -> str:
    """Write the section: angles between subspaces, errors, eigendigits, and the error over the number of latents."""
    since_s = study.spent_s()
    x, x_test = (to_pixels(part).flatten(1).double().numpy() for part in (study.data.train, study.data.test))
    fitted = PCA(n_components=max(SIZES), svd_solver="covariance_eigh").fit(x)
    compared = QUICKLY_COMPARED if study.is_quick else COMPARED
    linear = {
        k: study.train(f"linear-{k}", "linear", *LINEAR, f"architecture.options={{latent_dim={k}}}",
                       epochs=30, quick_epochs=50)
        for k in compared
    }  # fmt: skip
    rows = []
    for k, trained in linear.items():
        angles = np.rad2deg(subspace_angles(_decoder(trained), fitted.components_[:k].T))
        by_pca, by_network = _error(fitted, k, x_test), mean_squared_error(trained.model, study.data.test, None)
        difference = f"{by_network / by_pca - 1:+.3%}"
        rows.append([str(k), f"{angles.max():.2f}°", f"{by_pca:.5f}", f"{by_network:.5f}", difference])
    eigendigits = _eigendigits(fitted, linear[max(compared)])
    picture = study.figure(
        "eigendigits", eigendigits,
        "The first principal components; columns of the linear decoder as they were learned; and the same subspace turned "
        "until its axes lie closest to the components.", since_s,
    )  # fmt: skip
    return "\n\n".join(
        [
            "## 2. PCA",
            "With linear layers and squared error, the optimum for k latents is the span of the first k principal "
            "components (Baldi and Hornik, 1989). Gradient descent finds that subspace; its latents are some basis of it, not "
            "the components themselves. The angle is the largest principal angle between the two subspaces.",
            table(["latents k", "largest angle", "test error of PCA", "of the network", "difference"], rows),
            picture,
            _nonlinear(study, fitted, x_test),
        ]
    )


def _nonlinear(study: Study, fitted: PCA, x_test: NDArray[np.float64]) -> str:
    since_s = study.spent_s()
    sizes = QUICK_SIZES if study.is_quick else SIZES
    errors = {
        k: study.test_mse(
            study.train(f"conv-{k}", "plain", *CONVOLUTIONAL, f"architecture.options.latent_dim={k}",
                        epochs=12, quick_epochs=6)
        )
        for k in sizes
    }  # fmt: skip
    by_pca = {k: _error(fitted, k, x_test, limits=(0.0, 1.0)) for k in sizes}
    chart = lines(
        {"PCA, clamped to [0, 1]": list(by_pca.items()), "convolutional autoencoder": list(errors.items())},
        x_label="latents k", y_label="mean squared error", log_x=True, log_y=True,
    )  # fmt: skip
    verdict = curved_or_flat({k: by_pca[k] / errors[k] for k in sizes})
    return "\n\n".join([verdict, study.figure("nonlinear", chart, "Test error over the number of latents.", since_s)])


def curved_or_flat(ratios: dict[int, float]) -> str:
    """Return the conclusion on whether digits lie on a curved surface.

    Args:
        ratios: Test error of PCA as a multiple of the autoencoder's, by the number of latents.
    """
    better, most = [k for k, ratio in ratios.items() if ratio > 1], max(ratios)
    best = max(ratios, key=lambda k: ratios[k])
    measured = (
        f"The error of PCA, clamped to [0, 1], is {ratios[best]:.1f} times that of the autoencoder at {best} latents, and "
        f"{ratios[most]:.1f} times at {most}."
    )
    if len(better) == len(ratios):
        verdict = "Here the same number of latents keeps more of an image than PCA does, at every size."
    elif better:
        verdict = f"Here the autoencoder beats PCA at {', '.join(map(str, better))} latents, and not elsewhere."
    else:
        verdict = "Here the autoencoder does not beat PCA at any size: it saw too few images, or for too short a time."
    return f"With activations in between, the latents can lie on a curved surface. {measured} {verdict}"


def _decoder(trained: Trained) -> NDArray[np.float64]:
    assert isinstance(trained.model, LinearAutoencoder)  # noqa: S101  the recipe says so
    weights: NDArray[np.float64] = trained.model.decoder.weight.detach().double().numpy()  # (pixels, k)
    return weights


def _error(
    fitted: PCA, k: int, x: NDArray[np.float64], *, limits: tuple[float, float] = (-math.inf, math.inf)
) -> float:
    axes = fitted.components_[:k]
    x_hat = (x - fitted.mean_) @ axes.T @ axes + fitted.mean_
    return float(np.square(np.clip(x_hat, *limits) - x).mean())


def _eigendigits(fitted: PCA, trained: Trained) -> bytes:
    columns = _decoder(trained)
    basis, _ = np.linalg.qr(columns)
    components = fitted.components_[:SHOWN]
    turned = components @ basis @ basis.T
    rows = {"PCA": components, "as learned": columns.T[:SHOWN], "turned": turned}
    return rows_of_images({name: _as_images(vectors) for name, vectors in rows.items()})


def _as_images(vectors: NDArray[np.float64]) -> Tensor:
    scaled = 0.5 + vectors / (2 * np.abs(vectors).max(axis=1, keepdims=True))  # zero is mid-grey
    return torch.from_numpy(scaled.astype(np.float32)).reshape(len(vectors), 1, 28, 28)
