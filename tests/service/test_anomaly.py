"""POST /anomaly: verdicts, regions, masks, maps and heat maps, with answers computed on paper."""

import io
import json
import re
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.contract.sections import Calibration
from service.tasks.anomaly.thresholds import map_threshold, p_value, score_threshold, smallest_rate
from tests.service.conftest import MakeClient
from tests.service.files import Array, from_npy, pixels_of, png, to_npy
from tests.service.test_regions import flood_fill
from tests.service.toymodels import SCORES, publish_toy

# The toy's map is x^2, its score the mean of that. 99 scores and map peaks are 0.00 ... 0.98, the threshold is 0.95.
NPY, PNG = {"Accept": "application/x-npy"}, {"Accept": "image/png"}
NORMAL = np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4)
WHITE = np.full((4, 4), 255, np.uint8)
SPOTTED = np.zeros((4, 4), np.uint8)
SPOTTED[1:3, 2] = 255  # the map is 1 at two pixels: the score is 2/16, an anomaly for max_fpr=0.9


# --- the calibration ---


def calibration(scores: list[float], map_peaks: list[float] | None = None, target_fpr: float = 0.1) -> Calibration:
    peaks = tuple(sorted(map_peaks or ()))
    return Calibration(score="any", target_fpr=target_fpr, threshold=1.0, scores=tuple(sorted(scores)), map_peaks=peaks)


@pytest.mark.parametrize(
    ("map_peaks", "problem"),
    [((2.0, 1.0), "map_peaks must be in ascending order"), ((1.0,), "1 map_peaks and 2 scores")],
)
def test_a_calibration_has_a_peak_for_every_score_in_ascending_order(
    map_peaks: tuple[float, ...], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        Calibration(score="any", target_fpr=0.1, threshold=1.0, scores=(0.0, 1.0), map_peaks=map_peaks)


LEVELS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])


@given(st.lists(LEVELS, min_size=1, max_size=30), LEVELS, st.floats(0.01, 0.99))
def test_an_image_is_anomalous_for_a_rate_as_its_p_value_is(scores: list[float], score: float, max_fpr: float) -> None:
    calibrated = calibration(scores)
    p = p_value(score, calibrated.scores)
    if max_fpr < smallest_rate(calibrated) or abs(p - max_fpr) < 1e-6:  # out of reach, or a question of rounding
        return

    assert (score >= score_threshold(calibrated, max_fpr)) == (p <= max_fpr)


@given(st.lists(LEVELS, min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_a_map_reaches_its_level_in_at_most_that_share_of_normal_images(peaks: list[float], max_fpr: float) -> None:
    level = map_threshold(calibration([0.0] * len(peaks), peaks), max_fpr)

    assert level is not None
    assert level == np.float32(level)
    over = sum(np.float32(peak) >= np.float32(level) for peak in peaks)
    assert over <= max(0, max_fpr * (len(peaks) + 1) - 1 + 1e-6)


def test_the_smallest_rate_is_named_so_that_it_works(models_dir: Path, make_client: MakeClient) -> None:
    scores = SCORES[:31]  # 1/32 is 0.03125
    publish_toy(models_dir, manifest_changes={"anomaly": calibration(list(scores)).model_dump()})
    client = make_client()

    refused = client.post("/anomaly?max_fpr=0.03", content=png(NORMAL))
    said = re.search(r"is below ([\d.]+), the smallest rate that 31", refused.json()["detail"])
    assert said
    answer = client.post(f"/anomaly?max_fpr={said[1]}", content=png(NORMAL))

    assert (refused.status_code, refused.json()["code"]) == (422, "unreachable-rate")
    assert answer.status_code == 200
    assert answer.json()["calibration"] == {"images": 31, "smallest_fpr": 1 / 32}


# --- the verdict ---


def test_a_verdict_says_what_it_rests_on(client: TestClient) -> None:
    answer = client.post("/anomaly", content=png(SPOTTED)).json()

    assert answer == {
        "model": "toy",
        "version": 1,
        "threshold": 0.95,
        "review_threshold": 0.95,
        "max_fpr": 0.05,
        "calibration": {"images": 99, "smallest_fpr": 0.01},
        "score": 0.125,
        "verdict": "good",
        "is_anomalous": False,
        "p_value": (1 + 86) / 100,  # of 0.00 ... 0.98, those from 0.13 on are 86
        "unlike_training": [],
        "map_threshold": pytest.approx(0.94, abs=1e-6),  # 5 of 100 may lie above: it is just over the fifth largest
        "regions": [],
    }


def test_anomaly_flags_what_is_over_the_threshold(client: TestClient) -> None:
    answer = client.post("/anomaly", content=png(WHITE)).json()

    assert answer["is_anomalous"] is True
    assert answer["p_value"] == 0.01
    assert answer["map_threshold"] == pytest.approx(0.94, abs=1e-6)
    assert answer["regions"] == [{"x": 0, "y": 0, "width": 4, "height": 4, "area": 16, "peak": 1.0}]


def test_max_fpr_moves_both_thresholds(client: TestClient) -> None:
    answer = client.post("/anomaly?max_fpr=0.9", content=png(SPOTTED)).json()

    assert 0.09 < answer["threshold"] <= 0.1  # 89 of the 99 scores may lie at or above it: just over 0.09
    assert 0.09 < answer["map_threshold"] <= 0.1
    assert answer["is_anomalous"] is True
    assert answer["max_fpr"] == 0.9
    assert answer["regions"] == [{"x": 2, "y": 1, "width": 1, "height": 2, "area": 2, "peak": 1.0}]


def test_regions_come_largest_first(client: TestClient) -> None:
    values = np.zeros((4, 4), np.uint8)
    values[0, 0], values[2:, 2:] = 255, 128

    regions = client.post("/anomaly?max_fpr=0.9", content=png(values)).json()["regions"]

    assert [(region["area"], round(region["peak"], 3)) for region in regions] == [(4, 0.252), (1, 1.0)]


def test_an_anomalous_image_whose_map_stays_low_has_regions_where_it_is_half_as_high_over_its_background(
    models_dir: Path, make_client: MakeClient
) -> None:
    high = calibration(list(SCORES), [2.0] * len(SCORES))
    publish_toy(models_dir, manifest_changes={"anomaly": high.model_dump()})
    values = np.full((4, 4), 102, np.uint8)  # the map is 0.16
    values[0] = 255, 204, 153, 102  # 1, 0.64, 0.36, 0.16: half way from 0.16 to 1 is 0.58

    answer = make_client().post("/anomaly?max_fpr=0.9", content=png(values)).json()

    assert answer["map_threshold"] == pytest.approx(0.58)
    assert answer["regions"] == [{"x": 0, "y": 0, "width": 2, "height": 1, "area": 2, "peak": 1.0}]


def test_a_model_without_map_peaks_has_regions_at_half_the_peak(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, manifest_changes={"anomaly": calibration(list(SCORES)).model_dump()})
    client = make_client()
    values = SPOTTED.copy()
    values[1, 2] = 170  # 4/9 of the peak

    normal, anomalous = (client.post(f"/anomaly?max_fpr={p}", content=png(values)).json() for p in (0.02, 0.95))

    assert (normal["regions"], normal["map_threshold"]) == ([], None)
    assert anomalous["map_threshold"] == 0.5
    assert anomalous["regions"] == [{"x": 2, "y": 2, "width": 1, "height": 1, "area": 1, "peak": 1.0}]


def test_an_anomalous_image_without_a_place_that_stands_out_is_one_region(
    models_dir: Path, make_client: MakeClient
) -> None:
    below_all = calibration([-1.0, -1.0]).model_copy(update={"threshold": 0.0})
    publish_toy(models_dir, manifest_changes={"anomaly": below_all.model_dump()})

    answer = make_client().post("/anomaly", content=png(np.zeros((4, 4), np.uint8))).json()

    assert [region["area"] for region in answer["regions"]] == [16]


def test_anomaly_judges_every_file_of_a_form_in_order(client: TestClient) -> None:
    files = [("file", (name, content)) for name, content in (("a", png(WHITE)), ("b", b""), ("c", png(SPOTTED)))]

    answer = client.post("/anomaly", files=files).json()

    assert [entry.get("score") for entry in answer] == [1.0, None, 0.125]
    assert [entry.get("is_anomalous") for entry in answer] == [True, None, False]


def test_anomaly_judges_every_image_of_an_array(client: TestClient) -> None:
    answer = client.post("/anomaly", content=to_npy(np.stack([WHITE, NORMAL])[:, None])).json()

    assert answer["calibration"]["images"] == 99
    assert [result["is_anomalous"] for result in answer["results"]] == [True, False]
    assert [len(result["regions"]) for result in answer["results"]] == [1, 0]


# --- maps, masks and pictures ---


def test_anomaly_gives_the_raw_map(client: TestClient) -> None:
    for path in ("/anomaly", "/anomaly?view=heatmap"):
        response = client.post(path, content=png(NORMAL), headers=NPY)

        np.testing.assert_allclose(from_npy(response.content), (NORMAL / 255) ** 2, rtol=1e-5)  # float32


def test_the_mask_is_a_picture_of_one_bit(client: TestClient) -> None:
    path = "/anomaly?view=mask&max_fpr=0.9"
    response = client.post(path, content=png(SPOTTED))

    assert response.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).mode == "1"
    np.testing.assert_array_equal(pixels_of(response.content), SPOTTED > 0)
    tiff = client.post(path, content=png(SPOTTED), headers={"Accept": "image/tiff"})
    np.testing.assert_array_equal(pixels_of(tiff.content), SPOTTED > 0)
    array = from_npy(client.post(path, content=png(SPOTTED), headers=NPY).content)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, SPOTTED > 0)


def test_the_mask_of_a_normal_image_is_empty(client: TestClient) -> None:
    assert not pixels_of(client.post("/anomaly?view=mask", content=png(SPOTTED)).content).any()


@pytest.mark.parametrize("accept", ["application/json", "image/jpeg", "image/webp"])
def test_a_mask_comes_only_in_what_keeps_it_exact(client: TestClient, accept: str) -> None:
    response = client.post("/anomaly?view=mask", content=png(WHITE), headers={"Accept": accept})

    assert response.status_code == 406


def test_the_masks_of_an_array_are_an_array(client: TestClient) -> None:
    images = np.stack([SPOTTED, np.zeros_like(SPOTTED)])[:, None]

    masks = from_npy(client.post("/anomaly?view=mask&max_fpr=0.9", content=to_npy(images)).content)

    np.testing.assert_array_equal(masks, images[:, 0] > 0)


@pytest.mark.parametrize("resize", ["fit", "exact"])
def test_regions_mask_and_map_of_one_image_agree(models_dir: Path, make_client: MakeClient, resize: str) -> None:
    publish_toy(models_dir, resize=resize)
    client = make_client()
    for shape in ((4, 4), (8, 12), (20, 40), (90, 30), (3, 5), (300, 2)):
        values = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
        values[: shape[0] // 2, : shape[1] // 2] = 20
        ask = partial(client.post, content=png(values))

        verdict = ask("/anomaly?max_fpr=0.95").json()
        raw = from_npy(ask("/anomaly?max_fpr=0.95", headers=NPY).content)
        mask = pixels_of(ask("/anomaly?max_fpr=0.95&view=mask").content)

        level = verdict["map_threshold"]
        assert verdict["is_anomalous"]
        assert raw.shape == mask.shape == shape
        np.testing.assert_array_equal(mask, raw >= np.float32(level))
        expected = [
            {"x": r.left, "y": r.top, "width": r.right - r.left, "height": r.bottom - r.top}
            | {"area": r.area, "peak": r.peak}
            for r in sorted(flood_fill(raw, level), key=lambda region: -region.area)
        ]
        assert verdict["regions"] == expected != []


# A bar as wide as one cell of the map. The bilinear way from 1 in its cells to 0 beside them is half at the border, so
# the mask has the bar's own pixels.
ALL = slice(None)
BARS: dict[str, list[tuple[tuple[int, int], tuple[slice, slice]]]] = {
    "fit": [
        ((20, 40), (ALL, slice(30, 40))),  # 4x2 cells of 10x10, with a row of padding above and below
        ((30, 40), (slice(20, 30), ALL)),  # 4x3 cells, with the row of padding below
        ((40, 30), (slice(20, 30), ALL)),
        ((40, 30), (ALL, slice(0, 10))),
    ],
    "exact": [
        ((20, 40), (ALL, slice(10, 20))),  # 4x4 cells of 10x5
        ((20, 40), (slice(5, 10), ALL)),
        ((40, 8), (ALL, slice(2, 4))),
    ],
}


@pytest.mark.parametrize("resize", BARS)
def test_an_anomaly_is_found_where_it_is_in_the_sent_image(
    models_dir: Path, make_client: MakeClient, resize: str
) -> None:
    publish_toy(models_dir, resize=resize, manifest_changes={"anomaly": calibration(list(SCORES)).model_dump()})
    client = make_client()
    for shape, bar in BARS[resize]:
        values = np.zeros(shape, np.uint8)
        values[bar] = 255

        (region,) = client.post("/anomaly?max_fpr=0.98", content=png(values)).json()["regions"]
        mask = pixels_of(client.post("/anomaly?max_fpr=0.98&view=mask", content=png(values)).content)

        np.testing.assert_array_equal(mask, values > 0)
        rows, columns = (side.indices(length) for side, length in zip(bar, shape, strict=True))
        assert (region["x"], region["y"]) == (columns[0], rows[0])
        assert (region["width"], region["height"]) == (columns[1] - columns[0], rows[1] - rows[0])
        assert region["area"] == np.count_nonzero(values)


def heatmap(client: TestClient, values: Array, query: str = "") -> Array:
    response = client.post(f"/anomaly?view=heatmap{query}", content=png(values))
    assert response.headers["content-type"] == "image/png"
    return pixels_of(response.content)


def test_anomaly_draws_a_heat_map_of_the_sent_size(client: TestClient) -> None:
    response = client.post("/anomaly", content=png(np.zeros((8, 12), np.uint8)), headers=PNG)

    assert pixels_of(response.content).shape == (8, 12, 3)
    assert response.headers["x-resize"] == "fit 12x8 -> 4x3 in 4x4"


def test_the_heat_map_of_a_normal_image_is_the_image_in_grey(client: TestClient) -> None:
    drawn = heatmap(client, NORMAL)  # its map stays below (150/255)^2, less than three quarters of 0.94

    np.testing.assert_array_equal(drawn, np.repeat(NORMAL[..., None], 3, axis=2))


def test_the_heat_map_is_coloured_where_the_image_is_unusual(client: TestClient) -> None:
    values = np.zeros((4, 4), np.uint8)
    values[0, 0] = 255

    drawn = heatmap(client, values, "&max_fpr=0.95")  # score 1/16 over 0.04, level 0.04, and the map is 25 times that

    assert drawn[0, 0].tolist() == [252, 255, 178]  # 15 % of white and 85 % of the brightest colour, fcffa4
    assert not drawn[1:].any()
    assert not drawn[:, 1:].any()


def test_what_is_anomalous_has_an_outline_in_pictures_that_are_large_enough(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir, side=None)
    values = np.zeros((600, 300), np.uint8)
    values[100:200, 50:250] = 255

    drawn = heatmap(make_client(), values, "&max_fpr=0.95")

    outlined = np.all(drawn == [0, 255, 255], axis=2)
    expected = np.zeros((600, 300), np.bool_)
    expected[98:202, 48:252] = True  # two pixels around: 600 / 300
    expected[100:200, 50:250] = False
    np.testing.assert_array_equal(outlined, expected)


def test_a_heat_map_without_map_peaks_has_colours_only_if_the_image_is_anomalous(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir, manifest_changes={"anomaly": calibration(list(SCORES)).model_dump()})
    client = make_client()

    normal, anomalous = heatmap(client, SPOTTED, "&max_fpr=0.02"), heatmap(client, SPOTTED, "&max_fpr=0.95")

    np.testing.assert_array_equal(normal, np.repeat(SPOTTED[..., None], 3, axis=2))
    assert anomalous[1, 2].tolist() == [252, 255, 178]
    assert anomalous[0, 0].tolist() == [0, 0, 0]


def test_several_pictures_come_as_a_zip_with_their_verdicts(client: TestClient) -> None:
    files = [("file", ("a", png(WHITE))), ("file", ("b", b"")), ("file", ("c", png(np.zeros((5, 6, 3), np.uint8))))]

    for view, accept in (("&view=mask", "*/*"), ("&view=heatmap", "*/*"), ("", "application/zip")):
        response = client.post(f"/anomaly?max_fpr=0.5{view}", files=files, headers={"Accept": accept})

        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.namelist() == ["000_a.png", "002_c.png", "results.json"]
            shapes = [pixels_of(archive.read(name)).shape[:2] for name in ("000_a.png", "002_c.png")]
            rows = json.loads(archive.read("results.json"))
        assert shapes == [(4, 4), (5, 6)]
        assert [row.get("is_anomalous") for row in rows] == [True, None, False]
        assert rows[0]["regions"] == [{"x": 0, "y": 0, "width": 4, "height": 4, "area": 16, "peak": 1.0}]
        assert rows[1]["problem"]["status"] == 415


def test_the_masks_of_several_files_stack(client: TestClient) -> None:
    files = [("file", ("a", png(WHITE))), ("file", ("b", png(NORMAL)))]

    masks = from_npy(client.post("/anomaly?view=mask", files=files, headers=NPY).content)

    np.testing.assert_array_equal(masks, [np.ones((4, 4)), np.zeros((4, 4))])
    assert client.post("/anomaly?view=mask", files=files, headers={"Accept": "image/jpeg"}).status_code == 406
