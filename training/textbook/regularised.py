"""3. Regularised autoencoders: the effect of L1 and L2 penalties on the latents, over their strength."""

import torch
from jaxtyping import Real
from torch import Tensor
from torch.nn import functional as F

from training.charts import lines
from training.graphs import Decode, Encode
from training.images.pixels import to_pixels
from training.latents import latents
from training.markdown import table
from training.measure.retrieval import neighbour_accuracy
from training.textbook.study import CONVOLUTIONAL, Study, Trained

NAMES = {"l1": "L1, as LASSO", "l2": "L2, as RIDGE"}
STRENGTHS, QUICK_STRENGTHS = (0.01, 0.1, 0.3, 1.0, 3.0), (0.01, 1.0)
GALLERY = 10_000  # training images with labels, for the neighbours
MISSED, ASKED = 0.01, 2000  # relative rise of the error over this many test images: the decoder misses a latent


def regularised(study: Study) -> str:
    """Write the section: active latents, error and accuracy of neighbours over the strength of each penalty."""
    since_s = study.spent_s()
    strengths = QUICK_STRENGTHS if study.is_quick else STRENGTHS
    plain = _measure(study, _train(study, "none", 0.0))
    paths = {name: {s: _measure(study, _train(study, name, s)) for s in strengths} for name in NAMES}
    rows = [["none", "", *_cells(plain)]]
    rows += [[NAMES[name], f"{s:g}", *_cells(found)] for name, path in paths.items() for s, found in path.items()]
    charts = [
        study.figure(
            f"regularised-{title}",
            lines({NAMES[name]: [(s, found[i]) for s, found in path.items()] for name, path in paths.items()},
                  x_label="strength", y_label=label, log_x=True),
            f"{label.capitalize()} over the strength of the penalty.", since_s,
        )
        for i, (title, label) in enumerate([("active", "active latents of 32"), ("error", "mean squared error")])
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## 3. Regularised autoencoders",
            "A penalty on the latents, `strength` times their mean absolute value (L1) or mean square (L2), is added to the error. It "
            "makes the latents small, and L1, as in LASSO, makes them sparse. A latent counts as active if the decoder uses it: "
            f"fixing it at its mean raises the error by {MISSED:.0%} or more. Neighbours vote with "
            f"the labels of {min(GALLERY, len(study.digits.train)):,} training images.",
            table(["penalty", "strength", "active latents", "test error (MSE)", "accuracy of 5 neighbours"], rows),
            *charts,
            "The decoder can enlarge small latents again, so a weak penalty changes their scale and little else. "
            + " ".join(_strongest(name, path) for name, path in paths.items()),
        ]
    )


def _strongest(name: str, path: dict[float, tuple[int, float, float]]) -> str:
    strength, (active, error, accuracy) = max(path.items())
    return (
        f"{NAMES[name].split(',')[0]} of strength {strength:g} leaves {active} of 32 latents active, at an error of {error:.4f} and "
        f"an accuracy of {accuracy:.4f}."
    )


def _train(study: Study, name: str, strength: float) -> Trained:
    penalty = (f"regularisation.name={name}", f"regularisation.strength={strength!r}") if strength else ()
    directory = f"conv-32-{name}-{strength:g}" if strength else "conv-32"  # that of section 2
    return study.train(
        directory, "plain", *CONVOLUTIONAL, "architecture.options.latent_dim=32", *penalty, epochs=12, quick_epochs=6
    )


def _measure(study: Study, trained: Trained) -> tuple[int, float, float]:
    encode = Encode(trained.model)
    gallery, test = latents(encode, study.digits.train[:GALLERY, None]), latents(encode, study.data.test)
    accuracy = neighbour_accuracy(gallery, study.train_labels[:GALLERY], test, study.test_labels)
    return _active(trained, test[:ASKED], study.data.test[:ASKED]), study.test_mse(trained), accuracy


@torch.no_grad()
def _active(trained: Trained, z: Tensor, images: Real[Tensor, "batch channel height width"]) -> int:
    """Count the latents in use: those of (N, D) that raise the decoder's error if held at their mean."""
    decode, x = Decode(trained.model), to_pixels(images)
    whole = F.mse_loss(decode(z), x)
    missed = 0
    for i, mean in enumerate(z.mean(0)):
        held = z.clone()
        held[:, i] = mean
        missed += bool(F.mse_loss(decode(held), x) >= (1 + MISSED) * whole)
    return missed


def _cells(found: tuple[int, float, float]) -> list[str]:
    active, error, accuracy = found
    return [str(active), f"{error:.4f}", f"{accuracy:.4f}"]
