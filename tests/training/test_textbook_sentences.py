"""The sentences of the chapter say what its figures say, whatever these are."""

import re

import pytest

from tests.conftest import ROOT
from training.textbook.pca import curved_or_flat
from training.textbook.structure import whether_mirror_matters
from training.textbook.transforms import one_for_all, who_suffers


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ({2: 1.4, 8: 1.9, 32: 3.0}, "keeps more of an image than PCA does, at every size"),
        ({2: 1.4, 8: 0.7, 32: 0.3}, "beats PCA at 2 latents, and not elsewhere"),
        ({2: 0.9, 8: 0.7, 32: 0.3}, "does not beat PCA at any size"),
    ],
)
def test_an_autoencoder_is_called_better_only_where_its_error_is_smaller(
    ratios: dict[int, float], verdict: str
) -> None:
    said = curved_or_flat(ratios)

    assert verdict in said
    assert f"{max(ratios.values()):.1f} times that of the autoencoder" in said


@pytest.mark.parametrize(
    ("mirror", "other", "said"), [(0.0041, 0.0043, "similar"), (0.0418, 0.0157, "differ"), (0.01, 0.02, "differ")]
)
def test_a_mirror_is_called_needless_only_where_both_errors_are_similar(mirror: float, other: float, said: str) -> None:
    assert f"The errors {'are ' if said == 'similar' else ''}{said}" in whether_mirror_matters(mirror, other)


def test_one_network_is_said_to_do_all_only_if_it_does() -> None:
    assert "at a price" in one_for_all(0.010, 0.107)
    assert "has not learned" in one_for_all(0.090, 0.107)


def test_the_convolutional_network_is_said_to_suffer_only_if_it_does() -> None:
    assert "suffers more" in who_suffers(0.98, 1.22)
    assert "does not suffer more" in who_suffers(1.1, 1.0)


def test_the_page_has_the_sentences_that_its_own_figures_ask_for() -> None:
    page = (ROOT / "docs" / "textbook.md").read_text("utf-8")
    mirror, other = re.findall(r"^\| (?:no )?mirror \|.*\| ([\d.]+) \|$", page, re.MULTILINE)

    assert whether_mirror_matters(float(mirror), float(other)) in page
