"""The field `ignore` of /anomaly: pixels under its white take part in no figure of the answer."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.images.image import Image as SentImage
from service.images.inspect import ImageFile
from service.images.resize import Placement
from service.limits import InputLimits
from service.tasks.anomaly.ignore import read_ignored
from tests.service.conftest import MakeClient
from tests.service.files import from_npy, png, to_npy
from tests.service.nanmodel import publish_ignoring
from tests.service.toymodels import publish_toy

SIDE = 32
HALF = np.zeros((SIDE, SIDE), np.uint8)
HALF[:, :16] = 255  # ignores the left half
FLAT = np.full((SIDE, SIDE), 100, np.uint8)
SPOILED = FLAT.copy()
SPOILED[4:12, 4:12] = 255
Client = TestClient
Response = Any  # of httpx, which the test client does not name


@pytest.fixture
def client(make_client: MakeClient, models_dir: Path) -> Client:
    publish_ignoring(models_dir, side=SIDE)
    return make_client(max_cache_bytes=2**20)


def ask(client: Client, picture: bytes, mask: bytes | None, query: str = "", **headers: str) -> Response:
    files = [("file", ("a.png", picture))] + ([("ignore", ("mask.png", mask))] if mask is not None else [])
    return client.post(f"/anomaly{query}", files=files, headers=headers)


def test_a_defect_under_the_mask_is_ignored_by_score_regions_and_statistics(client: Client) -> None:
    seen, hidden = ask(client, png(SPOILED), None).json(), ask(client, png(SPOILED), png(HALF)).json()
    flat = ask(client, png(FLAT), png(HALF)).json()

    assert (seen["verdict"], len(seen["regions"])) == ("anomalous", 1)
    assert [sentence.split()[0] for sentence in seen["unlike_training"]] == ["contrast", "sharpness"]
    assert hidden == flat
    assert (hidden["verdict"], hidden["regions"], hidden["unlike_training"]) == ("good", [], [])


def test_the_map_the_mask_and_an_anomalous_rest_leave_out_what_is_ignored(client: Client) -> None:
    spoiled = SPOILED.copy()
    spoiled[20:24, 20:24] = 255

    verdict = ask(client, png(spoiled), png(HALF)).json()
    anomaly_map = from_npy(ask(client, png(spoiled), png(HALF), accept="application/x-npy").content)
    mask = from_npy(ask(client, png(spoiled), png(HALF), "?view=mask", accept="application/x-npy").content)

    assert [(region["x"], region["y"]) for region in verdict["regions"]] == [(20, 20)]
    assert (anomaly_map[:, :16] == 0).all()
    assert (anomaly_map[:, 16:] > 0).all()
    assert (mask.sum(), mask[20:24, 20:24].sum()) == (16, 16)


def test_one_mask_is_for_all_files_and_images_of_an_array(client: Client) -> None:
    files = [("file", png(SPOILED)), ("file", png(FLAT)), ("ignore", png(HALF))]
    array = np.stack([SPOILED, FLAT])[:, None].astype(np.float32) / 255

    by_file = client.post("/anomaly", files=[(name, (name, content)) for name, content in files]).json()
    by_array = ask(client, to_npy(array), png(HALF)).json()["results"]

    assert [answer["verdict"] for answer in by_file] == ["good", "good"]
    assert [answer["verdict"] for answer in by_array] == ["good", "good"]


def test_a_mask_is_read_from_alpha_and_arrays_and_resized_to_the_image(client: Client) -> None:
    clear = np.full((SIDE, SIDE, 4), 255, np.uint8)
    clear[:, 16:, 3] = 0  # white everywhere, transparent on the right
    file = io.BytesIO()
    Image.fromarray(clear).save(file, "PNG")
    small = HALF[::4, ::4]

    answers = [ask(client, png(SPOILED), mask).json() for mask in (file.getvalue(), to_npy(HALF), png(small))]

    assert [answer["verdict"] for answer in answers] == ["good"] * 3


def test_an_image_that_is_resized_is_judged_alike_whatever_is_under_its_mask(client: Client) -> None:
    plain, large = np.full((100, 100), 100, np.uint8), np.full((100, 100), 100, np.uint8)
    mask = np.zeros((100, 100), np.uint8)
    mask[:, :50], large[:, :50] = 255, 255

    assert ask(client, png(large), png(mask)).json() == ask(client, png(plain), png(mask)).json()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (png(np.full((SIDE, SIDE), 255, np.uint8)), "white everywhere, so nothing would be looked at: make black"),
        (png(np.where(np.eye(SIDE) > 0, 0, 255).astype(np.uint8)), "leaves too little to judge"),
        (to_npy(np.stack([HALF, HALF])[:, None]), "holds 2 images; send one for all files"),
        (b"no image", "the mask in 'ignore': the image starts with"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_with_the_cure(client: Client, mask: bytes, said: str) -> None:
    answer = ask(client, png(FLAT), mask)

    assert answer.status_code in {415, 422}
    assert said in answer.json()["detail"]


def test_a_second_mask_and_a_mask_without_a_file_are_refused(client: Client) -> None:
    mask = ("ignore", ("m.png", png(HALF)))

    twice = client.post("/anomaly", files=[("file", ("a.png", png(FLAT))), mask, mask])
    alone = client.post("/anomaly", files=[mask])
    elsewhere = client.post("/encode", files=[("file", ("a.png", png(FLAT))), mask])

    assert (twice.status_code, alone.status_code) == (422, 400)
    assert "2 fields 'ignore'; send one for all files" in twice.json()["detail"]
    assert elsewhere.status_code == 422


def test_a_mask_larger_than_max_pixels_is_refused(client: Client) -> None:
    answer = ask(client, png(FLAT), png(np.zeros((30_000, 4_000), np.uint8)))

    assert (answer.status_code, answer.json()["code"]) == (413, "too-many-pixels")


def test_a_model_without_it_says_so(make_client: MakeClient, models_dir: Path) -> None:
    publish_toy(models_dir)

    answer = ask(make_client(), png(FLAT[:4, :4]), png(HALF[:4, 14:18]))

    assert answer.status_code == 422
    assert "toy/1 cannot ignore pixels: its graph was exported without that; train the model again" in answer.text


@pytest.mark.parametrize("size", [(64, 96), (20, 30), (500, 400)])
def test_every_pixel_of_the_model_that_depends_on_ignored_ones_is_ignored(size: tuple[int, int]) -> None:
    height, width = size
    placement = Placement(height, width, 40, 60, 4, 2, 48, 64, "fit")
    rng = np.random.default_rng(0)
    mask = np.zeros(size, np.uint8)
    mask[: height // 3, : width // 2] = 255
    image, other = rng.random((2, 1, 1, height, width)).astype(np.float32)
    other[..., mask == 0] = image[..., mask == 0]

    ignored = read_ignored(
        ImageFile.of(png(mask)), placement, InputLimits(max_pixels=10**6, max_images=1, max_frames=1)
    )

    kept = ~ignored.canvas
    assert (ignored.sent == (mask > 0)).all()
    np.testing.assert_array_equal(placement.place(image)[0, 0][kept], placement.place(other)[0, 0][kept])
    assert 0.4 < kept.mean() < 0.85
    assert SentImage(mask[None, None]).size == size
