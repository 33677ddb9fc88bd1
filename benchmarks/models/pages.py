"""Dirty pages that are drawn, not scanned: words in free typefaces, with stains, folds and shadows."""

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

HEIGHT, WIDTH = 420, 540  # as most pages of the noisy office set
MARGIN = 18
TYPEFACES = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono")  # they come with Matplotlib, under a free licence
SIZES = (15, 17, 19, 21)  # pixels
INK, INK_SPREAD = 0.12, 0.08  # values of 0 to 1: some ink is grey
GRAIN = 0.012  # standard deviation
SEED = 20
# In random order: the text does not matter, but that no training has seen it.
WORDS = re.findall(
    r"\S+",
    "a about after again and answer arrives be before board box bridge by carries chapter children City clock cold "
    "come corner, dozen door, early. east evening fields first, five for four from gave Harbour has his hour in it "
    "its January just keeps kitchen large later. letter lights long. Mill morning must next no north of often old "
    "on opened over, people quiet railway, rain. river said seven she short since sky, slowly so some stone summer "
    "the their there; they through to town, trees until village water. was were west when which winter with without "
    "wooden yard years yellow ",
)


def drawn_pages(count: int) -> list[tuple[Tensor, Tensor]]:
    """Return dirty pages and their clean originals, (1, 1, H, W), the same at every call."""
    pages = []
    for number in range(count):
        draw = np.random.default_rng([SEED, number])
        clean = _set(TYPEFACES[number % len(TYPEFACES)], SIZES[number // len(TYPEFACES) % len(SIZES)], draw)
        dirty = np.clip(clean * _paper(draw) + draw.normal(0.0, GRAIN, clean.shape), 0.0, 1.0)
        pages.append((_as_tensor(dirty), _as_tensor(clean)))
    return pages


def _set(typeface: str, size: int, draw: np.random.Generator) -> NDArray[np.float64]:
    """Return a page full of words."""
    font = ImageFont.truetype(Path(mpl.get_data_path(), "fonts/ttf", f"{typeface}.ttf"), size)
    page = Image.new("L", (WIDTH, HEIGHT), 255)
    pen, ink = ImageDraw.Draw(page), int(255 * (INK + draw.uniform(-INK_SPREAD, INK_SPREAD)))
    for y in range(MARGIN, HEIGHT - MARGIN - size, size + size // 2):
        line = longer = ""
        while font.getlength(longer) <= WIDTH - 2 * MARGIN:
            line, longer = longer, f"{longer} {draw.choice(WORDS)}".strip()
        pen.text((MARGIN, y), line, fill=ink, font=font)
    return np.asarray(page) / 255


def _paper(draw: np.random.Generator) -> NDArray[np.float64]:
    """Return what is left of the light in every pixel of a sheet: a shadow, two folds, a few stains and creases."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    angle = draw.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * columns / WIDTH + np.sin(angle) * rows / HEIGHT + 1.5) / 3
    light = 1 - draw.uniform(0.1, 0.35) * slope
    for _ in range(2):
        angle, offset = draw.uniform(0, np.pi), draw.uniform(0.3, 0.7)
        distance = np.cos(angle) * (columns - offset * WIDTH) + np.sin(angle) * (rows - offset * HEIGHT)
        light *= 1 - draw.uniform(0.1, 0.3) * np.exp(-np.abs(distance) / draw.uniform(2, 12)) * (distance > 0)
    for _ in range(draw.integers(1, 4)):
        light *= 1 - _stain(draw)
    creases = np.abs(_cloud(draw, 12)) < draw.uniform(0.01, 0.04)
    dark: NDArray[np.float64] = light * (1 - draw.uniform(0.1, 0.3) * _blurred(creases.astype(np.float64), 1.0))
    return dark


def _stain(draw: np.random.Generator) -> NDArray[np.float64]:
    """Return how dark a stain with a darker rim is in every pixel, as a cup leaves it, or a drop."""
    shape = Image.new("L", (WIDTH, HEIGHT), 0)
    x, y, radius = draw.uniform(0, WIDTH), draw.uniform(0, HEIGHT), draw.uniform(30, 110)
    box = (x - radius, y - radius * draw.uniform(0.7, 1.0), x + radius, y + radius)
    ImageDraw.Draw(shape).ellipse(box, fill=255)
    inside = _blurred(np.asarray(shape) / 255 + 0.15 * _cloud(draw, 8), 3.0).clip(0, 1)
    rim = 4 * inside * (1 - inside)
    darkness: NDArray[np.float64] = draw.uniform(0.0, 0.25) * inside + draw.uniform(0.1, 0.3) * rim
    return darkness


def _cloud(draw: np.random.Generator, cells: int) -> NDArray[np.float64]:
    """Return a smooth random field of mean 0, as coarse as a grid of `cells` x `cells`."""
    coarse = Image.fromarray(draw.normal(0.0, 1.0, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float64)


def _blurred(values: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    picture = Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))) / 255


def _as_tensor(page: NDArray[np.float64]) -> Tensor:
    """Return a page as a file of 8 bits has it."""
    return torch.from_numpy(np.rint(page * 255).astype(np.float32) / 255)[None, None]
