"""Every field of a recipe says what it means, on the terminal and in the docs."""

from pathlib import Path

import pytest

from training.__main__ import main
from training.fields import explain, fields_by_kinds, page
from training.kinds import PROBLEMS

PAGE = Path(__file__).parent.parent.parent / "docs" / "recipes.md"


def test_every_field_of_every_kind_has_a_meaning_a_default_and_a_range() -> None:
    found = fields_by_kinds()

    assert {kind for kinds in found for kind in kinds.split(", ")} == PROBLEMS.keys()
    for kinds, fields in found.items():
        for field in fields:
            assert len(field.meaning) > 5, f"{kinds}: {field.path}"
            assert field.default, field.path
            assert field.values, field.path


def test_the_page_of_the_docs_is_made_of_the_recipes() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m training.fields > docs/recipes.md"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("training.epochs", ["Passes over", "default: 30; integer, above 0", "default: 20", "kind compress"]),
        ("degradation", ["degradation.max_sigma", "at least 0, at most 255", "kind denoise, restore, enhance, blind"]),
        ("architecture.options", ["conv: latent_dim"]),
        ("data.resize", ["exact, fit, reject", "auto, exact, fit"]),
    ],
)
def test_help_explains_a_field_or_a_section(asked: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["fit", "--help", asked])

    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in words), text


def test_help_for_a_field_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(SystemExit, match=r"no recipe has a field 'training\.epoch'; there is training\.epochs"):
        main(["fit", "--help", "training.epoch"])
    assert "training.epochs" in explain("training")
