"""Runs of every kind stand in one form, and those that older versions began are still read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training.architectures import ARCHITECTURES
from training.arguments import ARCHITECTURES as EXPLAINED_ARCHITECTURES
from training.arguments import FOLDERS, OF_SOME_KINDS, STAGES
from training.config import RecipeError
from training.errors import RunError
from training.kinds import PROBLEMS
from training.problems.one_size_model import LATER_STAGES
from training.recipe import load_recipe, recipe_names
from training.run import RunFile, Sources, read_run_file, start_run

DIGEST = "a" * 64
START = {"name": "photo", "version": 2, "sha256": "b" * 64, "images_seen": 24, "cpu_s": 1.5}


def older(recipe: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    fields = load_recipe(recipe).model_dump(mode="json")
    if fields["kind"] == "autoencode":
        del fields["kind"]
    return {"name": "mine", "recipe": fields, "data_sha256": DIGEST, **more}


def begun(recipe: str, *overrides: str) -> RunFile:
    return RunFile(name="mine", recipe=load_recipe(recipe, overrides), data_sha256=DIGEST, command="fit")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_of_a_kind_that_can_be_fitted(name: str) -> None:
    problem = PROBLEMS[load_recipe(name).kind]

    assert set(problem.takes) <= set(OF_SOME_KINDS)
    assert set(problem.takes) & set(FOLDERS)


@pytest.mark.parametrize(
    ("fields", "kind", "data"),
    [
        (older("digits", data_path="/photos", command="fit"), "autoencode", Path("/photos")),
        (older("digits", data_path=None, command="fit"), "autoencode", None),
        (older("denoise", start=START, command="fit"), "denoise", None),
        (older("photo-compressed", start=None, command="fit"), "compress-photos", None),
        (older("digits-compressed", command="fit"), "compress", None),
        (older("anomaly"), "anomaly", None),
    ],
)
def test_a_run_of_an_older_version_is_read(
    fields: dict[str, Any], kind: str, data: Path | None, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(fields))

    found = read_run_file(tmp_path)

    assert (found.recipe.kind, found.sources, found.data_sha256) == (kind, Sources(data=data), DIGEST)
    assert (found.start.name if found.start else None) == ("photo" if fields.get("start") else None)


def test_what_an_older_run_began_with_stands_beside_its_run_file(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(older("digits", data_path=None, command="fit")))
    (tmp_path / "start.json").write_text(json.dumps(START))

    start = read_run_file(tmp_path).start

    assert start is not None
    assert (start.name, start.images_seen) == ("photo", 24)


def test_a_run_is_gone_on_with_where_only_its_card_differs(tmp_path: Path) -> None:
    start_run(tmp_path, begun("denoise"), is_restart=False)
    (tmp_path / "report.json").write_text("{}")

    start_run(tmp_path, begun("denoise", "summary=better"), is_restart=False)

    assert read_run_file(tmp_path).recipe.summary == "better"
    assert (tmp_path / "report.json").exists()


def test_what_is_made_after_training_is_made_anew_where_only_that_differs(tmp_path: Path) -> None:
    problem = PROBLEMS["autoencode"]
    for file in ("weights.pt", "graphs.json", "prior.pt"):
        (tmp_path / file).write_text("old")
    start_run(tmp_path, begun("digits"), is_restart=False)

    start_run(
        tmp_path, begun("digits", "export.precision=float32"), later=problem.later, made_later=problem.made_later,
        is_restart=False,
    )  # fmt: skip

    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "weights.pt"}


@pytest.mark.parametrize("kind", ["digits", "denoise", "digits-compressed", "photo-compressed"])
def test_another_seed_or_other_images_are_refused_in_every_kind(kind: str, tmp_path: Path) -> None:
    start_run(tmp_path, begun(kind), is_restart=False)

    with pytest.raises(RunError, match=r"training\.seed was 0, now 7"):
        start_run(tmp_path, begun(kind, "training.seed=7"), is_restart=False)
    with pytest.raises(RunError, match="begun with other images"):
        start_run(tmp_path, begun(kind).model_copy(update={"data_sha256": "c" * 64}), is_restart=False)
    start_run(tmp_path, begun(kind, "training.seed=7"), is_restart=True)


def test_a_recipe_of_an_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('kind = "dream"\nname = "mine"\nsummary = ""\n')

    with pytest.raises(RecipeError, match=r"'autoencode', 'denoise'.*'anomaly'"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_recipe_of_another_kind_than_the_one_wanted_is_refused() -> None:
    with pytest.raises(RecipeError, match="recipe denoise is of kind denoise"):
        load_recipe("denoise", of=type(load_recipe("digits")))


def test_help_needs_no_pytorch_and_knows_every_stage_and_architecture() -> None:
    code = """
import sys
from training.__main__ import main
try:
    main(["--help"])
finally:
    assert not {"torch", "onnx", "matplotlib", "scipy"} & sys.modules.keys()
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "python -m training fit digits" in done.stdout
    assert EXPLAINED_ARCHITECTURES.keys() == ARCHITECTURES.keys()
    assert STAGES.keys() == {"train", *LATER_STAGES, "verify", "publish"}
