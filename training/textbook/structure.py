"""1. The structure: an encoder, a decoder, and no need for one to mirror the other."""

from torch import nn

from training.charts import lines
from training.markdown import table
from training.measure.baselines import reduced_rank_regression
from training.measure.psnr import mean_squared_error
from training.textbook.study import Study, Trained

SIMILAR = 1.2  # errors that differ by less than this factor are called similar


def structure(study: Study) -> str:
    """Write the section: two autoencoders of 32 latents, one with a mirrored decoder, with losses and errors."""
    since_s = study.spent_s()
    networks = {
        "mirror": study.train("mirror", "plain", epochs=12, quick_epochs=4),
        "no mirror": study.train(
            "no-mirror", "plain", "architecture.options={latent_dim=32, hidden=[128], decoder_hidden=[64, 128, 256]}",
            epochs=12, quick_epochs=4,
        ),
    }  # fmt: skip
    losses = {
        f"{name}, {part}": [(look["epoch"], look[f"{part}_loss"]) for look in trained.history]
        for name, trained in networks.items()
        for part in ("training", "validation")
    }
    curves = lines(losses, x_label="epoch", y_label="mean squared error", log_y=True)
    projection = reduced_rank_regression(study.data.train, None, 32)
    pca = mean_squared_error(lambda x: projection(x).clamp(0.0, 1.0), study.data.test, None)
    rows = [
        [name, _layers(trained), _parameters(trained, "encoder"), _parameters(trained, "decoder"),
         f"{study.test_mse(trained):.4f}"]
        for name, trained in networks.items()
    ]  # fmt: skip
    mirror, other = (study.test_mse(trained) for trained in networks.values())
    rows.append(["PCA of 32 components, clamped to [0, 1]", "784-32-784, linear", "25,088", "25,088", f"{pca:.4f}"])
    return "\n\n".join(
        [
            "## 1. The structure",
            "An autoencoder is a pair of functions. The encoder f maps the input x to a latent y, the decoder g maps y to the "
            "reconstruction z, and both are trained together to minimise ||z - x||². They only have to agree on the size of the "
            "latent. A decoder that mirrors the widths of the encoder is a habit, not a requirement. The table compares a mirror "
            "with another pair.",
            table(["network", "widths", "encoder parameters", "decoder parameters", "test error (MSE)"], rows),
            whether_mirror_matters(mirror, other),
            study.figure("structure", curves, "Losses of training and validation by epoch.", since_s),
            "The training loss of an epoch is the mean over its steps, with the weights at each step. The validation loss uses the "
            "moving average of the weights at the end of the epoch, so it can be lower.",
        ]
    )


def _parameters(trained: Trained, part: str) -> str:
    return f"{sum(p.numel() for p in trained.model.get_submodule(part).parameters()):,}"


def whether_mirror_matters(mirror: float, other: float) -> str:
    """Return the conclusion on whether the decoder must mirror the encoder, from two test errors."""
    ratio = other / mirror
    if max(ratio, 1 / ratio) < SIMILAR:
        return f"The errors are similar: without a mirror it is {ratio:.2f} times that of the mirror."
    return (
        f"The errors differ: without a mirror it is {ratio:.2f} times that of the mirror. The curves below say whether both had "
        "finished learning; after a short training the narrower or the luckier one is ahead."
    )


def _layers(trained: Trained) -> str:
    linear = [m for m in trained.model.modules() if isinstance(m, nn.Linear)]
    return "-".join(str(width) for width in [linear[0].in_features, *(m.out_features for m in linear)])
