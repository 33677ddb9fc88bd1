"""Images out of nothing but a seed, with answers computed on paper."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.service.conftest import MakeClient
from tests.service.toymodels import publish_generator


def test_a_model_that_generates_goes_live_and_says_what_it_draws(models_dir: Path, make_client: MakeClient) -> None:
    publish_generator(models_dir)

    manifest = make_client().get("/models/prior").json()

    assert manifest["generate"] == {"labels": ["dark", "light"], "shares": [0.25, 0.75]}
    assert [tensor["name"] for tensor in manifest["tasks"]["generate"]["inputs"]] == ["e", "label"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generate": None}, "come together"),
        ({"generate": {"labels": (), "shares": ()}}, "the input label of generate"),
        ({"generate": {"labels": ("a", "b"), "shares": (1.0,)}}, "one share"),
        ({"generate": {"labels": ("a", "a"), "shares": (0.5, 0.5)}}, "once"),
        ({"generate": {"labels": ("a", "b"), "shares": (0.5, 0.4)}}, "sum to 0.9"),
        ({"generate": {"labels": ("a", "b"), "shares": (1.0, 0.0)}}, "greater than 0"),
    ],
)
def test_a_manifest_whose_labels_make_no_sense_is_refused(
    models_dir: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        publish_generator(models_dir, manifest_changes=changes)
