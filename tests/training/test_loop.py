"""The training loop: it learns, repeats itself, goes on after a kill, and says when it cannot."""

from pathlib import Path

import pytest
import torch

from training import trainer
from training.checkpoint import Checkpoint
from training.config import ArchitectureConfig, DataConfig, Recipe, TrainingConfig
from training.errors import TrainingError
from training.images.dataset import Dataset
from training.images.pixels import to_pixels
from training.optimisers import orthogonalise
from training.problems import one_size
from training.schedule import learning_rate_factor

CPU = torch.device("cpu")


@pytest.fixture
def data() -> Dataset:
    """Images of one bright square somewhere on black: (N, 1, 8, 8)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(160, 1, 8, 8, dtype=torch.uint8)
    for image, at in zip(images, torch.randint(0, 5, (160, 2), generator=generator), strict=True):
        image[0, at[0] : at[0] + 4, at[1] : at[1] + 4] = 255
    return Dataset(
        name="squares",
        source="made here",
        licence="CC0-1.0",
        sha256="0" * 64,
        train=images[:100],
        validation=images[100:120],
        calibration=images[120:140],
        test=images[140:],
    )


def recipe_with(*, architecture: str = "conv", epochs: int = 3, **training: float | str) -> Recipe:
    options = {"latent_dim": 4} | ({"widths": [4, 8], "blocks": [1, 1]} if architecture == "conv" else {})
    return Recipe(
        name="squares",
        summary="",
        tasks=("denoise",),
        architecture=ArchitectureConfig(name=architecture, options=options),
        data=DataConfig(channels=1, height=8, width=8),
        training=TrainingConfig.model_validate({"epochs": epochs, "batch_size": 20, **training}),
    )


def weights_after(recipe: Recipe, data: Dataset, run_dir: Path) -> torch.Tensor:
    run_dir.mkdir(exist_ok=True)
    job = one_size.job(recipe, data, CPU)
    trainer.train(job, run_dir=run_dir, device=CPU, progress=False)
    return torch.cat([p.detach().flatten() for p in job.network.parameters()])


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_training_lowers_the_validation_loss(optimiser: str, data: Dataset, tmp_path: Path) -> None:
    recipe = recipe_with(epochs=40, optimiser=optimiser, ema_decay=0.9)

    report = trainer.train(one_size.job(recipe, data, CPU), run_dir=tmp_path, device=CPU, progress=False)

    assert report.history[-1]["validation_loss"] < 0.5 * report.history[0]["validation_loss"]
    assert report.steps == 40 * 5
    assert report.images_seen == 4000


def test_training_twice_gives_the_same_weights(data: Dataset, tmp_path: Path) -> None:
    recipe = recipe_with()

    first, second = (weights_after(recipe, data, tmp_path / run) for run in ("first", "second"))

    assert torch.equal(first, second)


def test_a_stopped_run_goes_on_and_ends_like_one_that_was_not(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_with()
    monkeypatch.setattr(trainer, "CHECKPOINT_INTERVAL_S", 0.0)
    whole = weights_after(recipe, data, tmp_path / "whole")
    calls = []

    def stop_in_second_epoch(*args: object) -> float:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 0.5

    with monkeypatch.context() as patch:
        patch.setattr(one_size, "validation_loss", stop_in_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            weights_after(recipe, data, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "weights.pt").exists()
    resumed = weights_after(recipe, data, tmp_path / "stopped")

    assert torch.equal(whole, resumed)


def test_the_last_loss_is_the_mean_of_the_steps_since_the_look_before() -> None:
    state = Checkpoint(torch.nn.Identity(), torch.nn.Identity(), [])
    for step in range(12):
        state.add({"training_loss": 2.0, "kl": 0.5})
        if step in {9, 11}:
            state.end_look(1.0)

    assert state.history == [
        {"epoch": 1, "step": 10, "training_loss": 2.0, "kl": 0.5, "validation_loss": 1.0},
        {"epoch": 2, "step": 12, "training_loss": 2.0, "kl": 0.5, "validation_loss": 1.0},
    ]


def test_the_saved_weights_are_those_of_the_report(data: Dataset, tmp_path: Path) -> None:
    recipe = recipe_with(architecture="mlp")
    report = trainer.train(one_size.job(recipe, data, CPU), run_dir=tmp_path, device=CPU, progress=False)

    model = one_size.trained(recipe, tmp_path)

    assert one_size.validation_loss(model, data.validation, recipe, CPU) == report.validation_loss
    assert not model.training


def test_weights_of_another_network_are_refused(data: Dataset, tmp_path: Path) -> None:
    weights_after(recipe_with(architecture="mlp"), data, tmp_path)

    with pytest.raises(TrainingError, match="does not fit the recipe's ConvAutoencoder"):
        one_size.trained(recipe_with(architecture="conv"), tmp_path)


def test_a_loss_that_explodes_is_an_error_with_the_cure(data: Dataset, tmp_path: Path) -> None:
    recipe = recipe_with(architecture="linear", optimiser="adam", learning_rate=1e30)

    with pytest.raises(TrainingError, match=r"lower training\.learning_rate"):
        weights_after(recipe, data, tmp_path)


def test_the_learning_rate_rises_over_the_warm_up_and_falls_to_zero() -> None:
    config = TrainingConfig(warmup_share=0.1)

    factors = [learning_rate_factor(step, 100, config) for step in (0, 10, 55, 100)]

    assert factors == pytest.approx([1 / 11, 1.0, 0.5, 0.0])


def test_pixels_are_bytes_over_255_in_float32() -> None:
    images = torch.arange(256, dtype=torch.uint8)

    pixels = to_pixels(images)

    assert pixels.dtype == torch.float32
    assert torch.equal(pixels, torch.arange(256).float() / torch.tensor(255.0))


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (12, 12)])
def test_an_orthogonalised_matrix_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    values = torch.linalg.svdvals(orthogonalise(matrix))

    assert values.min() > 0.6  # Jordan et al. give 0.7 to 1.2 for singular values that are not tiny
    assert values.max() < 1.25


def test_descend_on_takes_the_steps_of_the_schedule() -> None:
    weight = torch.nn.Parameter(torch.tensor(1.0))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - step / 2)

    trainer.descend_on(weight.square, schedule, steps=2, name="weight", progress=False)

    assert weight.item() == pytest.approx(1.0 * (1 - 0.2) * (1 - 0.1))  # gradient 2w, rates 0.1 and 0.05
