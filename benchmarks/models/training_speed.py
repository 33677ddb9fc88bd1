"""`python -m benchmarks.models training --threads 1`: images per second, and CPU seconds to the textbook's error.

Trainings one after the other, each measured on the 10,000 test images of MNIST under the same noise:

    textbook, plain loop    784-128-64-32-64-128-784, Adam, batches of 32 from a DataLoader, five epochs: a
                            straightforward first version
    textbook, Lightning     the same, as a LightningModule, if `pip install lightning` has been run
    textbook, our loop      the same network and settings by `python -m training`
    digits, our loop        the shipped network after a single epoch

timm's loop is a script outside its package, for labelled images, and is not measured. All use the same number of
threads. The machine may be shared, so compare the rows, not the seconds.
"""

import tempfile
import time
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from benchmarks.page import table, write_between
from training.architectures import build
from training.config import Recipe
from training.images.corruptions import corrupt
from training.images.dataset import Dataset, load_data
from training.images.pixels import to_pixels
from training.measure.psnr import mean_squared_error
from training.problems.one_size import job
from training.recipe import load_recipe
from training.trainer import train

EPOCHS, BATCH = 5, 32


def benchmark(data: Path, _: Path, docs: Path, *, is_quick: bool) -> None:
    """Train and measure.

    Args:
        data: Folder with MNIST's four IDX files, or its parent.
        docs: Folder with performance.md.
        is_quick: Train one epoch each, and do not write the page.
    """
    recipe = load_recipe("textbook", of=Recipe)
    digits = load_data(recipe.data, data / "mnist" if (data / "mnist").is_dir() else data, seed=0)
    epochs = 1 if is_quick else EPOCHS
    trainings = {
        "textbook, plain loop": partial(plain_loop, digits, epochs),
        **({"textbook, Lightning": partial(lightning_loop, digits, epochs)} if find_spec("lightning") else {}),
        "textbook, our loop": partial(our_loop, digits, "textbook", epochs),
        "digits, our loop": partial(our_loop, digits, "digits", 1),
    }
    rows = []
    for name, training in trainings.items():
        cpu, wall = time.process_time(), time.perf_counter()
        model, images = training()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        mse = mean_squared_error(model.eval(), digits.test, recipe.corruption)
        rows.append([name, f"{images / wall:.0f}", f"{cpu:.1f}", f"{mse:.5f}"])
        tqdm.write(" ".join(rows[-1]))
    text = table([f"{torch.get_num_threads()} thread(s)", "images/s", "CPU s", "test MSE"], rows)
    tqdm.write(text)
    if not is_quick:
        write_between(docs / "performance.md", "training", [text])


def plain_loop(data: Dataset, epochs: int) -> tuple[nn.Module, int]:
    """Train by a plain loop. Return the network and the number of images it saw."""
    model, loader, generator = _start(data)
    noise, optimiser = load_recipe("textbook", of=Recipe).corruption, _adam(model)
    for _ in range(epochs):
        for (x,) in tqdm(loader, desc="textbook, plain loop", leave=False):
            loss = nn.functional.mse_loss(model(corrupt(x, noise, generator)), x)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it only in part
            optimiser.step()
    return model, epochs * len(data.train)


def lightning_loop(data: Dataset, epochs: int) -> tuple[nn.Module, int]:
    """Train by Lightning. Return the network and the number of images it saw."""
    lightning: Any = import_module("lightning")
    model, loader, generator = _start(data)
    noise = load_recipe("textbook", of=Recipe).corruption

    class Textbook(lightning.LightningModule):  # type: ignore[misc]  # its type is unknown: it is optional
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            (x,) = batch
            return nn.functional.mse_loss(self.model(corrupt(x, noise, generator)), x)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return _adam(model)

    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.fit(Textbook(), loader)
    return model, epochs * len(data.train)


def _start(data: Dataset) -> tuple[nn.Module, DataLoader[tuple[Tensor, ...]], torch.Generator]:
    torch.manual_seed(0)
    model = build(load_recipe("textbook", of=Recipe))
    loader = DataLoader(TensorDataset(to_pixels(data.train)), batch_size=BATCH, shuffle=True)
    return model, loader, torch.Generator().manual_seed(0)


def _adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def our_loop(data: Dataset, name: str, epochs: int) -> tuple[nn.Module, int]:
    """Train by a recipe. Return the network and the number of images it saw."""
    recipe = load_recipe(name, (f"training.epochs={epochs}",), of=Recipe)
    device = torch.device("cpu")
    work = job(recipe, data, device)
    with tempfile.TemporaryDirectory() as folder:
        report = train(work, run_dir=Path(folder), device=device, progress=True)
    return work.network, report.images_seen
