"""Every endpoint, asked from outside, with answers computed on paper."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.tasks.answer import entry_name
from tests.service.files import from_npy, pixels_of, png, to_npy

DIGIT = np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4)


def test_denoise_answers_a_png_with_the_models_arithmetic(client: TestClient) -> None:
    response = client.post("/denoise", content=png(DIGIT))

    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-model"] == "toy/1"
    assert "x-resize" not in response.headers
    np.testing.assert_array_equal(pixels_of(response.content), DIGIT // 2)


@pytest.mark.parametrize(
    ("accept", "kind", "tolerance"),
    [("image/png", "PNG", 0), ("image/tiff", "TIFF", 0), ("image/webp", "WEBP", 6), ("image/jpeg", "JPEG", 3)],
)
def test_accept_chooses_the_format_of_the_clean_image(
    client: TestClient, accept: str, kind: str, tolerance: int
) -> None:
    response = client.post("/denoise", content=png(DIGIT), headers={"Accept": accept})

    assert response.headers["content-type"] == accept
    assert Image.open(io.BytesIO(response.content)).format == kind
    # JPEG and WebP are lossy; the tolerance is their error at quality 95 on this image.
    grey = np.array(Image.open(io.BytesIO(response.content)).convert("L"), int)
    assert np.abs(grey - DIGIT // 2).max() <= tolerance


def test_an_npy_answer_has_the_unrounded_floats(client: TestClient) -> None:
    response = client.post("/denoise", content=png(DIGIT), headers={"Accept": "application/x-npy"})

    assert response.headers["content-type"] == "application/x-npy"
    expected = DIGIT.astype(np.float32) / np.float32(255) * np.float32(0.5)
    np.testing.assert_array_equal(from_npy(response.content), expected[None])


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (1, 1, 4, 4), (5, 1, 4, 4)])
def test_an_array_is_answered_with_an_array_of_its_shape(client: TestClient, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)

    response = client.post("/denoise", content=to_npy(x), headers={"Content-Type": "application/x-npy"})

    assert response.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(from_npy(response.content), x * np.float32(0.5))


def test_one_array_can_be_answered_with_an_image(client: TestClient) -> None:
    response = client.post("/denoise", content=to_npy(DIGIT), headers={"Accept": "image/png"})

    np.testing.assert_array_equal(pixels_of(response.content), DIGIT // 2)


def test_a_form_with_one_file_is_answered_like_a_raw_body(client: TestClient) -> None:
    response = client.post("/denoise", files={"file": ("digit.png", png(DIGIT), "image/png")})

    assert response.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(pixels_of(response.content), DIGIT // 2)


def test_several_files_give_a_zip_in_order_with_one_result_or_problem_each(client: TestClient) -> None:
    files = [("file", ("a.bmp", png(DIGIT))), ("file", ("b", b"nonsense")), ("file", ("c", png(DIGIT[::-1])))]

    response = client.post("/denoise", files=files)

    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.namelist() == ["000_a.png", "002_c.png", "results.json"]
        np.testing.assert_array_equal(pixels_of(archive.read("002_c.png")), DIGIT[::-1] // 2)
        results = json.loads(archive.read("results.json"))
    assert results[0] == {"file": "000_a.png", "source": "a.bmp", "model": "toy/1", "resize": None}
    assert (results[1]["source"], results[1]["problem"]["code"]) == ("b", "unsupported-media-type")


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (None, "007.png"),
        ("part 17 (b).jpg", "007_part_17_b.png"),
        ("größe.tiff", "007_größe.png"),
        ("../../etc/passwd", "007_passwd.png"),
        ("C:\\Users\\Ann\\nut.bmp", "007_nut.png"),
        (".htaccess", "007_htaccess.png"),
        ("..", "007.png"),
        ("a\0b\n.png", "007_a_b.png"),
        ("x" * 300 + ".png", f"007_{'x' * 80}.png"),
        ("results.json", "007_results.png"),
    ],
)
def test_a_file_in_an_archive_is_named_after_what_was_sent_and_points_nowhere_else(sent: str | None, name: str) -> None:
    assert entry_name(7, sent, "png") == name


def test_the_same_name_twice_is_two_files(client: TestClient) -> None:
    response = client.post("/denoise", files=[("file", ("a.png", png(DIGIT)))] * 2)

    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.namelist() == ["000_a.png", "001_a.png", "results.json"]


@pytest.mark.parametrize("path", ["/anomaly", "/encode"])
def test_each_entry_of_a_list_says_of_which_file_it_is(client: TestClient, path: str) -> None:
    files = [("file", (name, png(DIGIT))) for name in ("a.png", "dir/b.png")]
    files.append(("file", ("torn.png", b"torn")))

    entries = client.post(path, files=files, headers={"Accept": "application/json"}).json()

    assert [entry["source"] for entry in entries] == ["a.png", "dir/b.png", "torn.png"]
    assert entries[2]["code"] == "unsupported-media-type"
    if path == "/encode":  # and it can be posted as it is
        assert client.post("/decode", json=entries[0]).status_code == 200


def test_several_files_can_become_one_array(client: TestClient) -> None:
    files = [("file", ("a", png(DIGIT))), ("file", ("b", png(DIGIT[::-1])))]

    response = client.post("/denoise", files=files, headers={"Accept": "application/x-npy"})

    assert from_npy(response.content).shape == (2, 1, 4, 4)


def test_encode_gives_the_latent_as_json(client: TestClient) -> None:
    response = client.post("/encode", content=png(DIGIT))

    quadrants = [DIGIT[:2, :2], DIGIT[:2, 2:], DIGIT[2:, :2], DIGIT[2:, 2:]]
    answer = response.json()
    assert {name: answer[name] for name in ("model", "version")} == {"model": "toy", "version": 1}
    np.testing.assert_allclose(answer["latent"], [q.mean() / 255 for q in quadrants], rtol=1e-6)  # float32


def test_encode_gives_the_latent_as_npy(client: TestClient) -> None:
    one = client.post("/encode", content=png(DIGIT), headers={"Accept": "application/x-npy"})
    several = client.post("/encode", content=to_npy(DIGIT[None, None]), headers={"Accept": "application/x-npy"})

    assert from_npy(one.content).shape == (4,)
    np.testing.assert_array_equal(from_npy(several.content), from_npy(one.content)[None])


def test_encode_gives_a_list_for_several_files(client: TestClient) -> None:
    files = [("file", ("a", png(DIGIT))), ("file", ("b", b"nonsense"))]

    answer = client.post("/encode", files=files).json()

    assert len(answer[0]["latent"]) == 4
    assert answer[1]["status"] == 415


def test_encode_gives_latents_for_an_array_of_images(client: TestClient) -> None:
    answer = client.post("/encode", content=to_npy(np.stack([DIGIT, DIGIT])[:, None])).json()

    assert np.array(answer["latents"]).shape == (2, 4)


def test_decode_draws_a_latent(client: TestClient) -> None:
    response = client.post("/decode", json={"latent": [0, 1, 0.5, -3]})

    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-model"] == "toy/1"
    expected = np.repeat(np.repeat([[0, 255], [128, 0]], 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(pixels_of(response.content), expected)


def test_decode_draws_several_latents_as_a_zip_or_an_array(client: TestClient) -> None:
    latents = {"latents": [[0, 1, 0, 0], [1, 1, 1, 1]]}

    zipped = client.post("/decode", json=latents)
    array = client.post("/decode", json=latents, headers={"Accept": "application/x-npy"})

    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert archive.namelist() == ["000.png", "001.png"]
        assert (pixels_of(archive.read("001.png")) == 255).all()
    assert from_npy(array.content).shape == (2, 1, 4, 4)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4)])
def test_decode_takes_npy(client: TestClient, shape: tuple[int, ...]) -> None:
    body = to_npy(np.ones(shape, np.float32))

    response = client.post("/decode", content=body, headers={"Accept": "application/x-npy"})

    assert from_npy(response.content).shape == ((1, 4, 4) if len(shape) == 1 else (shape[0], 1, 4, 4))


def test_what_encode_gives_decode_takes(client: TestClient) -> None:
    flat = np.full((4, 4), 102, np.uint8)

    latent = client.post("/encode", content=png(flat)).json()["latent"]
    response = client.post("/decode", json={"latent": latent})

    np.testing.assert_array_equal(pixels_of(response.content), flat)


def test_models_lists_what_is_live(client: TestClient) -> None:
    (model,) = client.get("/models").json()

    assert (model["name"], model["version"], model["versions"], model["latent_dim"]) == ("toy", 1, [1], 4)
    assert sorted(model["default_for"]) == ["anomaly", "decode", "denoise", "encode"]


def test_a_model_shows_its_manifest(client: TestClient) -> None:
    response = client.get("/models/toy?version=1")

    assert response.headers["x-model"] == "toy/1"
    assert response.json()["golden"]["file"] == "golden.npz"


def test_health_says_what_is_live_and_where_it_runs(client: TestClient) -> None:
    live, ready = client.get("/health/live"), client.get("/health/ready")

    assert live.json() == {"status": "alive"}
    assert ready.json()["provider"] == "CPUExecutionProvider"
    assert [(model["name"], model["version"]) for model in ready.json()["models"]] == [("toy", 1)]
    assert ready.json()["rejected"] == []


def test_an_answer_of_encode_can_be_posted_to_decode_as_it_is(client: TestClient) -> None:
    image = png(np.full((4, 4), 80, np.uint8))
    encoded = client.post("/encode", content=image, headers={"Content-Type": "image/png"})

    decoded = client.post("/decode", content=encoded.content, headers={"Content-Type": "application/json"})

    assert encoded.json()["model"] == "toy"
    assert decoded.status_code == 200
    assert np.unique(pixels_of(decoded.content)).tolist() == [80]
