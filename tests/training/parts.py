"""Pictures of parts, drawn: good ones and ones with a defect, for tests of detectors."""

import numpy as np
from numpy.typing import NDArray

SIDE = 96  # pixels
Pictures = NDArray[np.uint8]  # (N, 3, SIDE, SIDE)

_Y, _X = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5


def turned_bolts(count: int, seed: int, *, defect: bool = False) -> Pictures:
    """Bolts with a thread, anywhere and turned freely; the defect is a part of the thread worn off."""
    rng = np.random.default_rng(seed)
    return np.stack([_noisy(_bolt(rng, defect=defect), rng) for _ in range(count)])


def plates(count: int, seed: int, *, defect: bool = False) -> Pictures:
    """Plates with four screws, nearly always in the same place; the defect is a missing screw."""
    rng = np.random.default_rng(seed)
    return np.stack([_noisy(_plate(rng, defect=defect), rng) for _ in range(count)])


def papers(count: int, seed: int, *, defect: bool = False) -> Pictures:
    """A rough surface; the defect is a dark speck."""
    rng = np.random.default_rng(seed)
    return np.stack([_noisy(_paper(rng, defect=defect), rng) for _ in range(count)])


def _bolt(rng: np.random.Generator, *, defect: bool) -> NDArray[np.float64]:
    angle, (dy, dx) = rng.uniform(0, 2 * np.pi), rng.uniform(-0.06, 0.06, 2)
    y, x = _Y - dy, _X - dx
    along, aside = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    width = 0.06 + 0.015 * np.sign(np.sin(along * 110))
    if defect:
        width = np.where(np.abs(along - 0.1) < 0.06, 0.045, width)
    shaft = (np.abs(aside) < width) & (np.abs(along) < 0.3)
    head = (np.hypot(along + 0.3, aside) < 0.11) & (np.hypot(along + 0.3, aside) > 0.04)
    return np.where(shaft | head, 0.35 + 0.15 * np.cos(aside * 20), 0.85)


def _plate(rng: np.random.Generator, *, defect: bool) -> NDArray[np.float64]:
    dy, dx = rng.normal(0, 0.004, 2)
    plate = np.where((np.abs(_Y) < 0.4) & (np.abs(_X) < 0.4), 0.6, 0.2)
    missing = rng.integers(4) if defect else 4
    for number, (y, x) in enumerate([(-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)]):
        distance = np.hypot(_Y - y - dy, _X - x - dx)
        if number != missing:
            plate = np.where(distance < 0.08, np.where(distance < 0.04, 0.3, 0.8), plate)
    return plate


def _paper(rng: np.random.Generator, *, defect: bool) -> NDArray[np.float64]:
    paper = 0.7 + 0.08 * rng.normal(size=(SIDE // 2, SIDE // 2)).repeat(2, 0).repeat(2, 1)
    if defect:
        y, x = rng.uniform(-0.35, 0.35, 2)
        paper = paper - 0.4 * (np.hypot(_Y - y, _X - x) < 0.04)
    return paper


def _noisy(picture: NDArray[np.float64], rng: np.random.Generator) -> Pictures:
    light = rng.normal(1.0, 0.02)
    colour = np.array([1.0, 0.97, 0.92])[:, None, None] * picture * light
    return ((colour + rng.normal(0, 0.01, colour.shape)).clip(0, 1) * 255).round().astype(np.uint8)
