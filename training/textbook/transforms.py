"""5. Exercise 1: permuted, rotated and mirrored digits; a model for each, and one for all."""

from collections.abc import Sequence

import torch
from pydantic import JsonValue
from torch import Generator

from training.config import CorruptionConfig
from training.graphs import Denoise
from training.images.corruptions import corrupt
from training.images.pixels import to_pixels
from training.markdown import table
from training.measure.psnr import TEST_NOISE_SEED
from training.picture import rows_of_images
from training.textbook.study import CONVOLUTIONAL, Study, Trained

TRANSFORMS = {"as it is": "none", "shuffled": "permute", "turned by 30°": "rotate", "mirrored": "flip"}
QUICK = ("as it is", "shuffled", "mirrored")
NETWORKS = {
    "dense": ("architecture.options={latent_dim=32, hidden=[128, 64]}",),
    "convolutional": CONVOLUTIONAL,
}
SHOWN = 8


def transforms(study: Study) -> str:
    """Write the section: every model on every transform, for a dense and a convolutional network."""
    since_s = study.spent_s()
    kinds = {name: TRANSFORMS[name] for name in (QUICK if study.is_quick else TRANSFORMS)}
    models = {
        kind: {name: _train(study, kind, (corruption,)) for name, corruption in kinds.items()}
        | {"all of them": _train(study, kind, tuple(kinds.values()))}
        for kind in NETWORKS
    }
    errors = {
        kind: {name: [study.test_mse(trained, _corruption((c,))) for c in kinds.values()]
               for name, trained in of_kind.items()}
        for kind, of_kind in models.items()
    }  # fmt: skip
    tables = [
        f"**{kind.capitalize()}**\n\n"
        + table(["trained to undo", *kinds], [[name, *(f"{e:.4f}" for e in row)] for name, row in rows.items()])
        for kind, rows in errors.items()
    ]
    caption = "Test error (MSE) of every model (rows) on digits of every kind (columns)."
    return "\n\n".join(
        [
            "## 5. Exercise 1: shuffled, turned and mirrored digits",
            "Every digit is shuffled by one fixed permutation of its pixels, or turned by 30 degrees (padded by repeating its edge, "
            "and cropped), or mirrored. The network gets the changed digit and has to reconstruct the original through 32 latents. "
            "`corruption.name` in any recipe selects this: permute, rotate, flip, or one_of them.",
            *tables,
            study.origin(caption, since_s),
            _answer(errors, list(kinds)),
            _picture(study, kinds, models["dense"], since_s),
        ]
    )


def _train(study: Study, kind: str, corruptions: tuple[str, ...]) -> Trained:
    config = _corruption(corruptions)
    names = "".join(f", {c!r}" for c in config.options.get("names", ()))[2:]  # type: ignore[union-attr]  # a list
    options = f"corruption.options={{names=[{names}]}}" if names else "corruption.options={}"
    directory = "-".join(["undo", kind, *(corruptions if len(corruptions) == 1 else ["all"])])
    return study.train(
        directory, "plain", *NETWORKS[kind], f"corruption.name={config.name}", options, epochs=12, quick_epochs=4
    )


def _corruption(names: Sequence[str]) -> CorruptionConfig:
    if len(names) == 1:
        return CorruptionConfig(name=names[0])
    listed: list[JsonValue] = list(names)
    return CorruptionConfig(name="one_of", options={"names": listed})


def one_for_all(worst: float, stranger: float) -> str:
    """Return the answer to the first question.

    Args:
        worst: Largest error of the network trained on all kinds.
        stranger: Largest error of a network on a kind that it was not trained on.
    """
    if worst < stranger / 2:
        return "So one network can, at a price: the same 32 latents and weights serve several tasks."
    return "So this one has not learned to: after so short a training it is hardly better than a network that saw one kind."


def who_suffers(dense: float, convolutional: float) -> str:
    """Return the answer to the second question, from the errors on permuted digits relative to unchanged ones."""
    if convolutional > dense * 1.05:
        return "As expected, the convolutional one suffers more."
    return "In this run it does not suffer more: train longer, and on more images, to see the difference."


def _answer(errors: dict[str, dict[str, list[float]]], kinds: list[str]) -> str:
    """Return the exercise's questions with answers from the figures of this run."""
    dense, conv = errors["dense"], errors["convolutional"]
    own = [dense[name][i] for i, name in enumerate(kinds)]
    together = dense["all of them"]
    costs = ", ".join(f"{t / o:.2f} ({name})" for name, o, t in zip(kinds, own, together, strict=True))
    wrong = max(dense["as it is"][1:])
    shuffled = kinds.index("shuffled")
    conv_cost = conv["shuffled"][shuffled] / conv["as it is"][0]
    dense_cost = dense["shuffled"][shuffled] / dense["as it is"][0]
    return "\n\n".join(
        [
            "**Can one network handle all of them at the same time?** The network for unchanged digits has an error of up to "
            f"{wrong:.3f} on the other kinds. A network trained on all kinds must infer the kind from the image. "
            f"Its error, as a multiple of that of the specialist, is {costs}. {one_for_all(max(together), wrong)}",
            "**Does a convolutional network suffer more from the permutation than a dense one?** A dense layer ignores the order of the "
            "pixels: the same permutation of its weights undoes it. A convolution assumes that neighbours belong "
            "together and that a stroke looks alike everywhere; after the permutation neither holds, and its first layers see noise. "
            f"The error on shuffled digits is {dense_cost:.2f} times that on unchanged ones for the dense network, and "
            f"{conv_cost:.2f} times for the convolutional one. {who_suffers(dense_cost, conv_cost)}",
        ]
    )


def _picture(study: Study, kinds: dict[str, str], models: dict[str, Trained], since_s: float) -> str:
    x = to_pixels(study.data.test[:SHOWN])
    rows = {"original": x}
    with torch.no_grad():
        for name, corruption in list(kinds.items())[1:]:
            x_in = corrupt(x, CorruptionConfig(name=corruption), Generator().manual_seed(TEST_NOISE_SEED))
            rows[name] = x_in
            rows[f"{name}, undone"] = Denoise(models["all of them"].model)(x_in)
    caption = "Changed test digits, and what the one dense network for all kinds makes of them."
    return study.figure("transforms", rows_of_images(rows), caption, since_s)
