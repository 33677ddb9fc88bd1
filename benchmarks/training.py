"""How fast training is: images per second, and CPU seconds to the error of the textbook's autoencoder.

    python -m benchmarks.training --data FOLDER_WITH_MNIST

Three trainings, one after the other, each measured on the 10,000 test images under the same noise:

    textbook, plain loop    784-128-64-32-64-128-784, Adam, batches of 32 from a DataLoader, five epochs: as one writes
                            it down first
    textbook, our loop      the same network and settings by `python -m training`
    digits, our loop        the shipped network after a single epoch

All use the same number of threads. The machine may be shared, so compare the rows, not the seconds.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from training.architectures import build
from training.config import load_recipe
from training.corruptions import corrupt
from training.data import Dataset, load_data
from training.loop import to_pixels, train
from training.metrics import mean_squared_error

EPOCHS, BATCH = 5, 32


def plain_loop(data: Dataset) -> tuple[nn.Module, int]:
    """The network and the number of images it saw."""
    recipe = load_recipe("textbook")
    model = build(recipe)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(to_pixels(data.train)), batch_size=BATCH, shuffle=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for (x,) in tqdm(loader, desc="textbook, plain loop", leave=False):
            loss = nn.functional.mse_loss(model(corrupt(x, recipe.corruption, generator)), x)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model, EPOCHS * len(data.train)


def our_loop(data: Dataset, name: str, *overrides: str) -> tuple[nn.Module, int]:
    """The network of a recipe and the number of images it saw."""
    recipe = load_recipe(name, overrides)
    model = build(recipe)
    with tempfile.TemporaryDirectory() as folder:
        report = train(model, data, recipe, run_dir=Path(folder), device=torch.device("cpu"), progress=True)
    return model, report.images_seen


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's four IDX files")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    recipe = load_recipe("textbook")
    data = load_data(recipe.data, options.data, seed=0)
    trainings = {
        "textbook, plain loop": lambda: plain_loop(data),
        "textbook, our loop": lambda: our_loop(data, "textbook"),
        "digits, our loop": lambda: our_loop(data, "digits", "training.epochs=1"),
    }
    print(f"{'':22} {'images/s':>9} {'CPU s':>7} {'test MSE':>9}")
    for name, training in trainings.items():
        cpu, wall = time.process_time(), time.perf_counter()
        model, images = training()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        model.eval()
        mse = mean_squared_error(model, data.test, recipe.corruption)
        print(f"{name:22} {images / wall:9.0f} {cpu:7.1f} {mse:9.5f}")


if __name__ == "__main__":
    main()
