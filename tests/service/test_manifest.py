"""What a manifest must not say: every rule broken once, and what lies just inside it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from service.contract.fields import Name, is_name
from service.contract.manifest import MAX_NOISE_DIM, InputSpec, Manifest
from service.contract.sections import MAX_EXAMPLES, Calibration, Examples, Generate, Latent
from service.contract.sections import LevelEstimator as Level
from tests.service.planemodels import publish_plane_codec
from tests.service.toymodels import publish_blur, publish_codec, publish_generator, publish_toy

Document = dict[str, Any]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Manifests of one model of each kind, as JSON."""
    models = tmp_path_factory.mktemp("models")
    directories = {
        "toy": publish_toy(models, default_for=("denoise",)),
        "blur": publish_blur(models),
        "large": publish_blur(models, name="large", scale=2, luma_only=True),
        "generator": publish_generator(models),
        "any": publish_generator(models, name="any", labels=(), shares=()),
        "codec": publish_codec(models),
        "planes": publish_plane_codec(models),
    }
    return {name: (directory / "manifest.json").read_text() for name, directory in directories.items()}


def test_every_kind_is_taken_as_it_is(documents: dict[str, str]) -> None:
    for text in documents.values():
        assert json.loads(Manifest.model_validate_json(text).model_dump_json()) == json.loads(text)


@pytest.mark.parametrize(
    "name",
    [
        *("a", "0", "part-7_b", "a" * 63),
        *("", "-a", "_a", "A", "a b", "a.b", "a/b", "..", "a" * 64, "a\n", "\na", "ä", "a\0"),
    ],
)
def test_a_folder_has_a_models_name_where_a_manifest_may_say_it(name: str) -> None:
    try:
        is_taken = TypeAdapter(Name).validate_python(name) == name
    except ValidationError:
        is_taken = False

    assert is_name(name) == is_taken == (re.match(r"[a-z0-9][a-z0-9_-]{0,62}\Z", name) is not None)


def set_at(document: Document, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for name in parents:
        document = document[int(name) if isinstance(document, list) else name]
    if isinstance(document, list):
        document[int(last)] = value
    else:
        document[last] = value


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("toy", {"tasks": {}, "default_for": []}, "a model needs at least one task"),
        (
            "toy",
            {"default_for": ["enhance", "denoise", "compress"]},
            r"default for \['compress', 'enhance'\], which the model",
        ),
        (
            "toy",
            {"tasks.denoise.inputs.0.name": "image"},
            r"denoise: tensors are \(\('image',\), \('x_hat',\)\), the contr",
        ),
        ("toy", {"tasks.anomaly.outputs.1.name": "heat"}, r"anomaly: tensors are .*'heat'"),
        ("blur", {"tasks.denoise.inputs.1.name": "level"}, r"denoise: tensors are \(\('x', 'level'\)"),
        ("toy", {"latent": None}, "encode and decode need `latent`"),
        ("toy", {"examples": {"labels": ["a"], "latents": [[1.0]]}}, "the latents of `examples` do not have the size"),
        ("blur", {"examples": {"labels": ["a"], "latents": [[1.0]]}}, "the latents of `examples` do not have the size"),
        ("toy", {"anomaly": None}, "the anomaly task requires its calibration, and the reverse"),
        ("large", {"enhance": None}, "the enhance task requires `enhance`, and the reverse"),
        ("toy", {"enhance": {"scale": 2}}, "the enhance task requires `enhance`, and the reverse"),
        ("generator", {"generate": None}, "the generate task requires `generate`, and the reverse"),
        ("toy", {"generate": {}}, "the generate task requires `generate`, and the reverse"),
        ("codec", {"compression": None}, "the compress task requires `compression`, and the reverse"),
        ("blur", {"noise": None}, "the input sigma of denoise requires `noise`, and the reverse"),
        (
            "toy",
            {"noise": {"min_sigma": 0, "max_sigma": 9}},
            "the input sigma of denoise requires `noise`, and the reverse",
        ),
        ("blur", {"input.height": 8, "input.width": 8}, "take any size: height and width must be null"),
        ("large", {"input.height": 8, "input.width": 8}, "take any size: height and width must be null"),
        ("large", {"input.channels": 3}, "luma_only requires one channel"),
        ("codec", {"input.height": None, "input.width": None}, "either a grid of symbols or one size"),
        ("planes", {"input.height": 8, "input.width": 8}, "either a grid of symbols or one size"),
        ("planes", {"input.channels": 3}, "a grid of symbols requires one channel and multiple_of=8"),
        ("planes", {"input.multiple_of": 4}, "a grid of symbols requires one channel and multiple_of=8"),
        (
            "generator",
            {"generate": {"labels": [], "shares": []}},
            "label of generate requires `generate.labels`, and the reverse",
        ),
        (
            "any",
            {"generate": {"labels": ["a"], "shares": [1.0]}},
            "label of generate requires `generate.labels`, and the reverse",
        ),
        ("generator", {"input.height": None, "input.width": None}, "a model that generates needs one size"),
        (
            "generator",
            {"tasks.generate.inputs.0.shape": ["n", MAX_NOISE_DIM + 1]},
            r"e has shape \['n', 4097\]; it must be \(N, D\)",
        ),
        ("generator", {"tasks.generate.inputs.0.shape": ["n", "d"]}, r"e has shape \['n', 'd'\]"),
        ("generator", {"tasks.generate.inputs.0.shape": [2, 4]}, r"e has shape \[2, 4\]"),
        ("generator", {"tasks.generate.inputs.0.shape": ["n", 4, 4]}, r"e has shape \['n', 4, 4\]"),
        ("toy", {"schema_version": 2}, "schema_version"),
        ("toy", {"name": "../toy"}, "name"),
        ("toy", {"tasks.denoise.file": "../denoise.onnx"}, "file"),
        ("toy", {"surprise": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused_with_the_reason(
    documents: dict[str, str], kind: str, changes: Document, said: str
) -> None:
    document = json.loads(documents[kind])
    for path, value in changes.items():
        set_at(document, path, value)

    with pytest.raises(ValidationError, match=said):
        Manifest.model_validate(document)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("toy", {"default_for": ["denoise", "encode", "decode", "anomaly"]}),
        ("toy", {"examples": {"labels": ["a"], "latents": [[1.0, 2.0, 3.0, 4.0]]}}),
        ("large", {"enhance.luma_only": False, "input.channels": 3}),
        ("generator", {"tasks.generate.inputs.0.shape": ["n", MAX_NOISE_DIM]}),
    ],
)
def test_what_lies_just_inside_a_rule_is_taken(documents: dict[str, str], kind: str, changes: Document) -> None:
    document = json.loads(documents[kind])
    for path, value in changes.items():
        set_at(document, path, value)

    Manifest.model_validate(document)


@pytest.mark.parametrize("task", ["encode", "decode"])
def test_either_way_through_the_latents_needs_to_say_what_they_are(documents: dict[str, str], task: str) -> None:
    document = json.loads(documents["toy"])
    document |= {"tasks": {task: document["tasks"][task]}, "anomaly": None, "default_for": []}
    Manifest.model_validate(document)

    with pytest.raises(ValidationError, match="encode and decode need `latent`"):
        Manifest.model_validate(document | {"latent": None})


LEVEL: Document = {
    "features": "haar-1", "center": (0.0, 0.0), "spread": (1.0, 1.0), "hidden": ((1.0, 1.0), (2.0, 2.0), (3.0, 3.0)),
    "hidden_bias": (0.0, 0.0, 0.0), "out": (1.0, 1.0, 1.0), "out_bias": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "fields", "said"),
    [
        (InputSpec, {"channels": 1, "height": 4, "width": None, "resize": "fit"}, "height=4 and width=None: give both"),
        (InputSpec, {"channels": 1, "height": None, "width": 4, "resize": "fit"}, "height=None and width=4: give both"),
        (Level, {**LEVEL, "spread": (1.0,)}, "spread and every row of hidden have 2 numbers, as center has"),
        (Level, {**LEVEL, "hidden": ((1.0, 1.0), (2.0,), (3.0, 3.0))}, "every row of hidden have 2 numbers"),
        (Level, {**LEVEL, "hidden_bias": (0.0, 0.0)}, "hidden_bias and out have 3 numbers"),
        (Level, {**LEVEL, "out": (1.0, 1.0)}, "hidden_bias and out have 3 numbers"),
        (Generate, {"labels": ("a", "b"), "shares": (1.0,)}, "2 labels and 1 shares: give each label one share, once"),
        (Generate, {"labels": ("a", "a"), "shares": (0.5, 0.5)}, "2 labels and 2 shares: give each label one share"),
        (Generate, {"labels": ("a", "b"), "shares": (0.5, 0.4)}, "the shares sum to 0.9, not to 1"),
        (Generate, {"labels": ("a", "b"), "shares": (0.5, 0.502)}, "the shares sum to 1.002, not to 1"),
        (Latent, {"dim": 2, "mean": (0.0,), "std": (1.0, 1.0)}, "dim is 2 but mean has 1 and std 2 values"),
        (Latent, {"dim": 2, "mean": (0.0, 0.0), "std": (1.0,)}, "dim is 2 but mean has 2 and std 1 values"),
        (Latent, {"dim": 1, "mean": (0.0, 0.0), "std": (1.0, 1.0)}, "dim is 1 but mean has 2 and std 2 values"),
        (
            Latent,
            {"dim": 1, "mean": (0.0,), "std": (1.0,), "directions": ((1.0,),)},
            "directions are rows of 1 numbers",
        ),
        (
            Latent,
            {"dim": 1, "mean": (0.0,), "std": (1.0,), "directions": ((1.0, 2.0),), "spread": (1.0,)},
            "directions are rows of 1 numbers, each with one spread",
        ),
        (
            Examples,
            {"labels": ("a", "b"), "latents": ((1.0,),)},
            "2 labels and 1 latents: as many of each, at most 1000",
        ),
        (Examples, {"labels": ("a",) * 1001, "latents": ((1.0,),) * 1001}, "1001 labels and 1001 latents"),
        (Calibration, {"scores": (1.0, 0.0)}, "scores must be in ascending order"),
        (Calibration, {"scores": (0.0, 1.0), "map_peaks": (1.0, 0.0)}, "map_peaks must be in ascending order"),
        (Calibration, {"scores": (0.0, 1.0), "map_peaks": (1.0,)}, "1 map_peaks and 2 scores: give one per image, or"),
        (Calibration, {"scores": ()}, "scores"),
        (Calibration, {"scores": (0.0,), "target_fpr": 0.0}, "target_fpr"),
        (Calibration, {"scores": (0.0,), "target_fpr": 1.0}, "target_fpr"),
    ],
)
def test_a_part_that_contradicts_itself_is_refused_with_the_reason(part: Any, fields: Document, said: str) -> None:  # noqa: ANN401 - any of the parts
    calibration = {"score": "any", "target_fpr": 0.1, "threshold": 1.0} if part is Calibration else {}

    with pytest.raises(ValidationError, match=said):
        part(**{**calibration, **fields})


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        (InputSpec, {"channels": 1, "height": 4, "width": 6, "resize": "fit"}),
        (InputSpec, {"channels": 3, "height": None, "width": None, "resize": "reject"}),
        (Level, LEVEL),
        (Generate, {}),
        (Generate, {"labels": ("a", "b"), "shares": (0.333, 0.6665)}),
        (Generate, {"labels": ("a", "b"), "shares": (0.5, 0.5009)}),
        (Latent, {"dim": 2, "mean": (0.0, 0.0), "std": (1.0, 1.0), "directions": ((0.0, 1.0),), "spread": (0.0,)}),
        (Examples, {"labels": ("a",) * MAX_EXAMPLES, "latents": ((1.0,),) * MAX_EXAMPLES}),
        (Calibration, {"score": "any", "target_fpr": 0.1, "threshold": 1.0, "scores": (0.0, 0.0)}),
        (
            Calibration,
            {"score": "any", "target_fpr": 0.1, "threshold": 1.0, "scores": (0.0, 2.0), "map_peaks": (1.0, 1.0)},
        ),
    ],
)
def test_a_part_just_inside_its_rules_is_taken(part: Any, fields: Document) -> None:  # noqa: ANN401 - any of the parts
    part(**fields)


def test_a_manifest_cannot_be_changed(documents: dict[str, str], tmp_path: Path) -> None:
    manifest = Manifest.model_validate_json(documents["toy"])

    with pytest.raises(ValidationError, match="frozen"):
        manifest.name = "other"  # type: ignore[misc]  # that is the point
