"""A picture of another kind than those learnt is said to be one, and doubtful ones are put up for review."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.contract.likeness import statistics_of, unlike_in_looks, unlike_in_size
from service.contract.sections import Learnt
from tests.service.conftest import MakeClient
from tests.service.files import png, to_npy
from tests.service.toymodels import SCORES, publish_toy

GREY = np.full((4, 4), 100, np.uint8)
LOOKS = {"brightness": (0.3, 0.4), "contrast": (0.0, 0.5), "sharpness": (0.0, 4.0)}
LEARNT = {"widths": (4, 6), "heights": (4, 6), "looks": LOOKS}


@pytest.fixture
def knowing(make_client: MakeClient, models_dir: Path) -> TestClient:
    """The toy, which has noted what it learnt from: its score is the mean of x^2, its threshold 0.95."""
    anomaly: dict[str, Any] = {"score": "mean of x^2", "target_fpr": 0.05, "threshold": 0.95, "scores": SCORES}
    publish_toy(models_dir, manifest_changes={"anomaly": {**anomaly, "learnt": LEARNT}})
    return make_client()


def test_an_image_like_those_learnt_is_good(knowing: TestClient) -> None:
    answer = knowing.post("/anomaly", content=png(GREY)).json()

    assert (answer["verdict"], answer["unlike_training"]) == ("good", [])


def test_another_size_and_brightness_are_named_beside_what_was_learnt(knowing: TestClient) -> None:
    answer = knowing.post("/anomaly", content=png(np.full((4, 40), 200, np.uint8))).json()

    assert answer["unlike_training"] == ["40x4; learnt (4 to 6)x(4 to 6)", "brightness 0.78; learnt 0.3 to 0.4"]
    assert (answer["verdict"], answer["is_anomalous"]) == ("review", False)


def test_what_is_anomalous_stays_so_however_unlike_it_is(knowing: TestClient) -> None:
    answer = knowing.post("/anomaly", content=png(np.full((4, 4), 255, np.uint8))).json()

    assert answer["verdict"] == "anomalous"
    assert answer["unlike_training"] == ["brightness 1; learnt 0.3 to 0.4"]


def test_each_image_of_an_array_is_compared(knowing: TestClient) -> None:
    images = np.stack([np.full((4, 4), 0.35), np.full((4, 4), 0.9)]).astype(np.float32)[:, None]

    answer = knowing.post("/anomaly", content=to_npy(images)).json()

    assert [result["unlike_training"] for result in answer["results"]] == [[], ["brightness 0.9; learnt 0.3 to 0.4"]]


def test_a_score_between_two_rates_is_to_be_reviewed(client: TestClient) -> None:
    spotted = np.zeros((4, 4), np.uint8)
    spotted[0, :3] = 255  # 3 of 16: its score is 0.1875

    plain = client.post("/anomaly", content=png(spotted)).json()
    asked = client.post("/anomaly?max_fpr=0.05&review_fpr=0.85", content=png(spotted)).json()
    lower = client.post("/anomaly?max_fpr=0.85&review_fpr=0.05", content=png(spotted)).json()

    assert (plain["verdict"], plain["review_threshold"]) == ("good", plain["threshold"])
    assert (asked["verdict"], asked["is_anomalous"]) == ("review", False)
    assert 0.14 < asked["review_threshold"] < 0.16 < asked["threshold"]  # 84 of 99 scores may lie at or above it
    assert (lower["verdict"], lower["review_threshold"]) == ("anomalous", lower["threshold"])


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [(310, 340, True), (320, 330, True), (620, 680, True), (604, 258, False), (700, 768, False), (100, 110, False)],
)
def test_a_size_fits_up_to_a_tenth_in_proportions_and_twice_in_pixels(width: int, height: int, fits: bool) -> None:
    found = unlike_in_size(width, height, (310, 310), (340, 340))

    assert found == ([] if fits else [f"{width}x{height}; learnt 310x340"])


def test_statistics_are_those_of_grey_levels_and_their_steps() -> None:
    stripes = np.zeros((1, 1, 4, 4), np.float32)
    stripes[..., ::2] = 1.0
    colour = np.zeros((1, 3, 2, 2), np.float32)
    colour[:, 1] = 0.5

    found, of_colour = statistics_of(stripes), statistics_of(colour)

    assert {name: float(values[0]) for name, values in found.items()} == {
        "brightness": 0.5, "contrast": 0.5, "sharpness": 2.0
    }  # fmt: skip
    assert float(of_colour["brightness"][0]) == pytest.approx(0.587 / 2)


def test_ranges_are_widened_by_their_width_and_a_fifth_of_their_end_at_least() -> None:
    assert unlike_in_looks(
        {"brightness": 0.69},
        {
            "brightness": (0.4, 0.5),
        },
    ) == ["brightness 0.69; learnt 0.4 to 0.5"]
    assert unlike_in_looks({"brightness": 0.59}, {"brightness": (0.4, 0.5)}) == []
    assert unlike_in_looks({"brightness": 0.41}, {"brightness": (0.5, 0.5)}) == []
    assert unlike_in_looks({"brightness": 0.39}, {"brightness": (0.5, 0.5)}) != []


def test_no_distance_of_features_is_too_small() -> None:
    assert unlike_in_looks({"features": 0.1}, {"features": (1.5, 2.7)}) == []
    assert unlike_in_looks({"features": 4.0}, {"features": (1.5, 2.7)}) == ["features 4; learnt 1.5 to 2.7"]


def test_ranges_begin_with_the_least() -> None:
    with pytest.raises(ValidationError, match="contrast: 2 to 1; give the least first"):
        Learnt(widths=(1, 1), heights=(1, 1), looks={"contrast": (2.0, 1.0)})
