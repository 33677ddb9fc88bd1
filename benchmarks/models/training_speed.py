"""`python -m benchmarks.models training --threads 1`: images per second, and CPU seconds to the textbook's error.

Three trainings, one after the other, each measured on the 10,000 test images of MNIST under the same noise:

    textbook, plain loop    784-128-64-32-64-128-784, Adam, batches of 32 from a DataLoader, five epochs: a
                            straightforward first version
    textbook, our loop      the same network and settings by `python -m training`
    digits, our loop        the shipped network after a single epoch

All use the same number of threads. The machine may be shared, so compare the rows, not the seconds.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn
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
    torch.manual_seed(0)
    recipe = load_recipe("textbook", of=Recipe)
    model = build(recipe)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(to_pixels(data.train)), batch_size=BATCH, shuffle=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for (x,) in tqdm(loader, desc="textbook, plain loop", leave=False):
            loss = nn.functional.mse_loss(model(corrupt(x, recipe.corruption, generator)), x)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it only in part
            optimiser.step()
    return model, epochs * len(data.train)


def our_loop(data: Dataset, name: str, epochs: int) -> tuple[nn.Module, int]:
    """Train by a recipe. Return the network and the number of images it saw."""
    recipe = load_recipe(name, (f"training.epochs={epochs}",), of=Recipe)
    device = torch.device("cpu")
    work = job(recipe, data, device)
    with tempfile.TemporaryDirectory() as folder:
        report = train(work, run_dir=Path(folder), device=device, progress=True)
    return work.network, report.images_seen
