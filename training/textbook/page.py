"""`python -m training textbook`: every claim and exercise of the chapter as a command, a picture and a number."""

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from training.files import write_atomically
from training.textbook.applications import applications
from training.textbook.denoising import denoising
from training.textbook.latent_space import latent_space
from training.textbook.pca import pca
from training.textbook.regularised import regularised
from training.textbook.structure import structure
from training.textbook.study import Study
from training.textbook.transforms import transforms

PAGE = "textbook.md"
SECTIONS: tuple[Callable[[Study], str], ...] = (
    structure, pca, regularised, denoising, transforms, latent_space, applications,
)  # fmt: skip

INTRODUCTION = """# The textbook chapter, reproduced

An autoencoder learns to reproduce its input through fewer numbers: x -> encoder f -> latent y -> decoder g -> z, trained by
min ||z - x||². This page tests the claims and exercises of a textbook chapter on MNIST. The command below each figure made it, and makes
it again. Sentences that compare figures are written from those figures:

<!-- needs: data, and an hour -->

    python -m training textbook --data DATA     # MNIST's four files; downloaded without --data
    python -m training textbook --quick         # a small sample, in two minutes: to see it work, not for the figures

Errors are mean squared errors of pixels in [0, 1] over the test images, which no training sees. CPU-seconds are of one core."""


def textbook(study: Study) -> Path:
    """Work through all sections, write the page into the study's docs and return its path."""
    parts = [INTRODUCTION]
    for section in tqdm(SECTIONS, desc="textbook", unit="section", disable=not study.progress):
        parts.append(section(study))
    study.docs.mkdir(parents=True, exist_ok=True)
    page = study.docs / PAGE
    with write_atomically(page) as file:
        file.write(("\n\n".join(parts) + "\n").encode())
    return page
