"""`python -m training benchmark photo-compression`: an autoencoder of photographs beside JPEG, WebP, AVIF and JPEG XL.

It trains, writes files of photographs that training did not have, reads them again and measures; figures and curve go
into docs/compression.md. No model is published: docs/compression.md says why.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Generator
from tqdm import tqdm

from service.container import DIGEST_BYTES, Container, symbols_crc32, write_container
from training.compression.classical import Bytes, Point, lossy_codecs, lossy_curve, size_at
from training.compression.fit import draw_curves
from training.compression.grid import Symbols, fit_grid_tables
from training.compression.lapped import LappedAutoencoder, rounded
from training.compression.loop import trade_off
from training.errors import VerifyError
from training.files import write_atomically
from training.loop import TrainingError, to_pixels
from training.markers import table, write_between
from training.metrics import psnr_db
from training.restoration.photos import Pair, read_photos

NAME = "autoencoder"
START = "DCT, same tables"
PAGE, CHART = "compression.md", "images/compression-photos.png"
HELD_BACK = 20  # photographs that are measured; the others train
SIDE = 256  # pixels, of what is measured
BYTES_OF_A_BIT = SIDE * SIDE / 8  # bytes of an image with one bit per pixel
OFFSET = 3  # pixels from the middle: photographs were JPEGs, whose blocks the measured ones shall not share
STEPS = (90.0, 64.0, 46.0, 33.0, 24.0)  # of quantisation, for pixels 0 to 255
PRICE = 0.13  # lambda of a bit in squared steps; of uniform quantisation at high rates it is ln(2) / 6 = 0.116
PATCH, BATCH = 96, 8  # of training
TRAINING_STEPS, QUICK_STEPS = 2500, 20
LEARNING_RATE, KERNEL_RATE, PRIOR_RATE = 2e-3, 4e-4, 2e-2
QUALITIES = {
    "JPEG": range(3, 80, 3),
    "WebP": range(0, 70, 4),
    "AVIF": range(8, 70, 5),
    "JPEG XL": range(2, 80, 6),
}

Counted = UInt8[np.ndarray, "patch channel height width"]
Images = Float32[np.ndarray, "image 1 height width"]


def benchmark(data: Path, models: Path, docs: Path, *, is_quick: bool) -> None:
    """Trains on BSDS500, measures 256x256 pixels of 20 photographs of it, and writes docs/compression.md.

    Args:
        data: The folder bsds500, or the one above it.
        models: Not used.
        docs: Folder with compression.md and images/.
        is_quick: 20 steps of training, and docs stay as they are.

    Raises:
        DataError: There are no such photographs.
        VerifyError: A file was not read as it was written.
    """
    folder = data / "bsds500" if (data / "bsds500").is_dir() else data
    photos = read_photos(folder, 1, validation=HELD_BACK, least_side=SIDE + 2 * OFFSET, progress=True)
    images = np.stack([_middle(pair) for pair in photos.validation])
    counted = _patches(photos.train, SIDE, len(photos.train), torch.Generator().manual_seed(1))
    model = train(photos.train, steps=QUICK_STEPS if is_quick else TRAINING_STEPS)
    points = _measure(model, counted, images, "with contexts")
    flat = _measure(model, counted, images, "without", in_contexts=False)
    others = {START: _measure(LappedAutoencoder(_steps()).eval(), counted, images, "before training")}
    for name, (write, _) in tqdm(lossy_codecs().items(), desc="others", leave=False):
        others[name] = _best(lossy_curve([images[i : i + 1] for i in range(len(images))], write, QUALITIES[name]))
    lines = [
        f"BSDS500, the middle {SIDE}x{SIDE} pixels, grey, of {len(images)} photographs that training did not have "
        f"({len(photos.train)} others), a file each, headers included.",
        _table(points, flat, others),
    ]
    for line in lines:
        tqdm.write(f"{line}\n")
    if is_quick:
        return
    write_between(docs / PAGE, "photos", [*lines, f"![PSNR over bytes per image of 256x256 pixels]({CHART})"])
    with write_atomically(docs / CHART) as file:
        file.write(draw_curves({NAME: points, **others}, around=points))


def _best(points: list[Point]) -> list[Point]:
    """Without those that another one beats in bytes and PSNR: JPEG XL's qualities do not always rise."""
    return [
        p for p in points if not any(q.bytes_per_image < p.bytes_per_image and q.psnr_db > p.psnr_db for q in points)
    ]


def _table(points: list[Point], flat: list[Point], others: dict[str, list[Point]]) -> str:
    """A row per rate: bits per pixel, and what the others need for the same PSNR."""
    head = ["PSNR, dB", "bits per pixel", "without contexts", *(f"{name}, same PSNR" for name in others)]
    rows = []
    for point, plain in zip(points, flat, strict=True):
        bits = point.bytes_per_image / BYTES_OF_A_BIT
        cells = [f"{point.psnr_db:.2f}", f"**{bits:.3f}**", f"{plain.bytes_per_image / BYTES_OF_A_BIT:.3f}"]
        for curve in others.values():
            size = size_at(curve, point.psnr_db)
            cells.append("-" if size is None else f"{size / BYTES_OF_A_BIT:.3f} ({size / point.bytes_per_image:.2f}x)")
        rows.append(cells)
    return table(head, rows)


def train(pairs: tuple[Pair, ...], *, steps: int, seed: int = 0) -> LappedAutoencoder:
    """The autoencoder, trained on patches at a random rate each.

    Raises:
        TrainingError: The loss is no longer a finite number.
    """
    lambdas = PRICE * torch.tensor(_steps()).square()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LappedAutoencoder(_steps())
        kernels, prior = [model.analysis, model.synthesis], [model.weight, model.log_scale]
        groups = [(list(model.refine.parameters()), LEARNING_RATE), (kernels, KERNEL_RATE), (prior, PRIOR_RATE)]
        optimiser = torch.optim.Adam([{"params": group, "lr": rate} for group, rate in groups])
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [rate for _, rate in groups], steps, pct_start=0.1)
        generator = torch.Generator().manual_seed(seed)
        bar = tqdm(range(steps), desc="train", unit="step")
        for _ in bar:
            x = to_pixels(torch.from_numpy(_patches(pairs, PATCH, BATCH, generator)))
            rate = torch.randint(len(STEPS), (BATCH,), generator=generator)
            x_hat, bits = model(x, rate)
            loss = trade_off(x_hat, x, bits, lambdas[rate])
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss became {loss.item()}")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch has no types there
            optimiser.step()
            schedule.step()
            bar.set_postfix_str(f"loss {loss.item():.1f}", refresh=False)
    return model.eval()


def _steps() -> tuple[float, ...]:
    return tuple(step / 255.0 for step in STEPS)


def _measure(
    model: LappedAutoencoder, counted: Counted, images: Bytes, what: str, *, in_contexts: bool = True
) -> list[Point]:
    """A point per rate: each image in a file of its own, header included, and what is read from it."""
    points = []
    for rate in tqdm(range(len(STEPS)), desc=f"measure {what}", unit="rate"):
        tables = fit_grid_tables(_symbols(model, counted, rate), in_contexts=in_contexts)
        symbols = tables.clip(_symbols(model, images, rate))
        size, squares = 0, 0.0
        for i, original in enumerate(images):
            payload = tables.pack(symbols[i : i + 1])
            read = tables.unpack(payload, (1, *symbols.shape[2:]))
            if not np.array_equal(read, symbols[i : i + 1]):
                raise VerifyError(f"rate {rate}, image {i}: what was read is not what was written")
            size += len(_file(rate, read, payload))
            x_hat = np.rint(_images(model, read, rate) * 255.0)
            squares += float(np.square((x_hat - original) / 255.0, dtype=np.float64).sum())
        points.append(Point(size / len(images), psnr_db(max(squares / images.size, 1e-10))))
    return points


def _file(rate: int, symbols: Symbols, payload: bytes) -> bytes:
    """As the service would write it, digests left empty."""
    none = bytes(DIGEST_BYTES)
    return write_container(
        Container("photo-compressed", 1, none, none, rate, len(symbols), (), symbols_crc32(symbols), payload)
    )


@torch.no_grad()
def _symbols(model: LappedAutoencoder, images: Bytes, rate: int) -> Symbols:
    made = []
    for part in torch.split(torch.from_numpy(images), 50):
        y = model.encode(to_pixels(part), torch.full((len(part),), rate))
        made.append(rounded(y).to(torch.int32).numpy())
    return np.concatenate(made)


@torch.no_grad()
def _images(model: LappedAutoencoder, symbols: Symbols, rate: int) -> Images:
    x_hat = model.decode(torch.from_numpy(symbols).float(), torch.full((len(symbols),), rate))
    made: Images = x_hat.clamp(0.0, 1.0).numpy()
    return made


def _middle(pair: Pair) -> UInt8[np.ndarray, "1 height width"]:
    top, left = ((side - SIDE) // 2 + OFFSET for side in pair.clean.shape[1:])
    return pair.clean[:, top : top + SIDE, left : left + SIDE].numpy()


def _patches(pairs: tuple[Pair, ...], side: int, count: int, generator: Generator) -> Bytes:
    """Patches at random places of random photographs, half of them mirrored."""
    made = []
    for _ in range(count):
        photo = pairs[int(torch.randint(len(pairs), (), generator=generator))].clean
        top, left = (int(torch.randint(whole - side + 1, (), generator=generator)) for whole in photo.shape[1:])
        patch = photo[:, top : top + side, left : left + side]
        made.append(patch.flip(2) if torch.rand((), generator=generator) < 0.5 else patch)
    return torch.stack(made).numpy()
