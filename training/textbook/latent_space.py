"""6. Exercise 2: encoder and decoder apart; the plane of two latents, and thirty-two of them on a plane."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import Tensor

from training.charts import scatter
from training.graphs import Decode, Encode
from training.images.pixels import to_pixels
from training.latents import latents
from training.markdown import table
from training.measure.retrieval import NEIGHBOURS, neighbour_accuracy
from training.picture import grid_of_images, rows_of_images
from training.textbook.study import CONVOLUTIONAL, SEED, Study, Trained

GALLERY = 10_000  # training images with labels, for the neighbours
SHOWN = 2_000  # test digits in a scatter
GRID = 15  # decoded points a side

Vectors = NDArray[np.float32]


def latent_space(study: Study) -> str:
    """Write the section: scatter plots of latents by digit, cluster metrics, and images of chosen latents."""
    since_s = study.spent_s()
    plane = study.train(
        "plane", "plain", *CONVOLUTIONAL, "architecture.options.latent_dim=2", epochs=30, quick_epochs=8
    )
    wide = study.train(
        "conv-32", "plain", *CONVOLUTIONAL, "architecture.options.latent_dim=32", epochs=12, quick_epochs=6
    )  # that of section 2
    gallery, test = study.digits.train[:GALLERY, None], study.data.test
    spaces = {
        "2 latents": (_encode(plane, gallery), _encode(plane, test)),
        "32 latents": (_encode(wide, gallery), _encode(wide, test)),
        "784 pixels": (to_pixels(gallery).flatten(1).numpy(), to_pixels(test).flatten(1).numpy()),
    }
    labels = study.test_labels.numpy()
    measures = table(
        ["space", "silhouette", f"accuracy of {NEIGHBOURS} neighbours", "adjusted Rand index of 10-means"],
        [[name, *_measures(study, *of)] for name, of in spaces.items()],
    )
    names = [str(label) for label in labels[:SHOWN]]
    z = spaces["2 latents"][1]
    by_digit = study.figure(
        "plane", scatter(z[:SHOWN], names, x_label="first latent", y_label="second latent"),
        "Test digits in the plane of two latents.", since_s,
    )  # fmt: skip
    projected = TSNE(random_state=SEED, perplexity=30).fit_transform(spaces["32 latents"][1][:SHOWN])
    projection = study.figure(
        "projection", scatter(projected, names), "The same digits by 32 latents, on a plane by t-SNE.", since_s
    )
    return "\n\n".join(
        [
            "## 6. Exercise 2: the latent space",
            "Encoder and decoder are two graphs and can be used separately (`/encode`, `/decode`). With two latents the whole space "
            "can be plotted. The network was trained without labels.",
            by_digit,
            _decoded(study, plane, z, since_s),
            "The silhouette measures how much closer a digit is to its own class than to the next (1 at best, 0 where classes touch); "
            f"neighbours vote with the labels of {min(GALLERY, len(gallery)):,} training images; the Rand index compares ten clusters, "
            "found without labels, with the digits (0 is chance). Compare the rows: the plane is better as a picture than as a "
            "classifier. How close do 32 latents come to all 784 pixels?",
            measures,
            projection,
        ]
    )


def _encode(trained: Trained, images: Tensor) -> Vectors:
    z: Vectors = latents(Encode(trained.model), images).numpy()
    return z


def _measures(study: Study, gallery: Vectors, test: Vectors) -> list[str]:
    labels, known = study.test_labels.numpy(), study.train_labels[:GALLERY]
    some = slice(0, SHOWN)  # the silhouette looks at every pair
    accuracy = neighbour_accuracy(torch.from_numpy(gallery), known, torch.from_numpy(test), study.test_labels)
    clusters = KMeans(10, n_init=3, random_state=SEED).fit_predict(test)
    return [
        f"{silhouette_score(test[some], labels[some]):.3f}",
        f"{accuracy:.4f}",
        f"{adjusted_rand_score(labels, clusters):.3f}",
    ]


def _decoded(study: Study, plane: Trained, z: Vectors, since_s: float) -> str:
    """Draw a grid over the middle of the plane, and the digits of the mean latent of every class."""
    low, high = np.quantile(z, [0.02, 0.98], axis=0)
    x, y = np.linspace(low[0], high[0], GRID), np.linspace(high[1], low[1], GRID)  # up is up
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
    labels = study.test_labels.numpy()
    middles = np.stack([np.median(z[labels == digit], axis=0) for digit in range(10)]).astype(np.float32)
    steps = np.linspace(middles[0], middles[1], 10).astype(np.float32)
    with torch.no_grad():
        decode = Decode(plane.model)
        grid, chosen, between = (decode(torch.from_numpy(latents)) for latents in (points, middles, steps))
    pictures = rows_of_images({"middle of each": chosen, "from 0 to 1": between})
    return "\n\n".join(
        [
            study.figure("plane-decoded", grid_of_images(grid, GRID), "Reconstructions by the decoder over that plane.", since_s),
            study.figure(
                "plane-chosen", pictures,
                "Digits generated from chosen latents: the middle (median) of every class, and ten steps from that of 0 to that of 1.",
                since_s,
            ),
        ]
    )  # fmt: skip
