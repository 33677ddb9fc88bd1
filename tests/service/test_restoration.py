"""Pictures of any size, depth and mode through models of any size: /denoise with a noise level, and /enhance."""

import asyncio
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms
from starlette.testclient import TestClient

from service.contract.manifest import InputSpec
from service.images import tiles
from service.images.image import Image
from service.images.inspect import ImageFile
from service.images.noise import estimate_sigma
from service.images.tiles import plan
from service.limits import InputLimits, Limits
from service.models.loading import load_model
from service.models.model import Model
from service.models.provider import CPU
from service.tasks.answer import Answer
from service.tasks.restore import Options, Restoration
from tests.service.conftest import MakeClient
from tests.service.files import Array, from_npy, pixels_of, png, save, to_npy
from tests.service.toymodels import publish_blur, publish_toy

RNG = np.random.default_rng(11)
LIMITS = InputLimits(25_000_000, 256, 256)


@pytest.fixture
def blur(models_dir: Path, make_client: MakeClient) -> TestClient:
    """Models that denoise grey and colour, and enlarge twice by luma."""
    publish_blur(models_dir, name="grey", default_for=["denoise"])
    publish_blur(models_dir, name="colour", channels=3, default_for=["denoise"])
    publish_blur(models_dir, name="twice", scale=2, luma_only=True)
    return make_client()


def opened(models_dir: Path, name: str, *, max_batch_pixels: int = 2**20) -> Model:
    limits = Limits(threads=1, max_batch=8, max_pixels=25_000_000, max_batch_pixels=max_batch_pixels)
    return load_model(models_dir / name / "1", provider=CPU, limits=limits)


def mean_of_5x5(values: Array) -> Array:
    """What the toy answers, for one plane, with zeros around what is padded to a multiple of 4 by reflection."""
    height, width = values.shape
    bottom, right = -height % 4, -width % 4
    mode = "reflect" if bottom < height and right < width else "edge"
    whole = np.pad(values.astype(np.float64), ((0, bottom), (0, right)), mode=mode)  # type: ignore[call-overload]
    padded = np.pad(whole, 2)
    return sum(padded[i : i + height, j : j + width] for i in range(5) for j in range(5)) / 25  # type: ignore[return-value]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (4, 4), (37, 50)])
def test_any_size_goes_through_by_reflection(blur: TestClient, size: tuple[int, int]) -> None:
    values = RNG.integers(0, 256, size, np.uint8)

    response = blur.post("/denoise?sigma=0", content=png(values))

    assert response.status_code == 200
    assert np.abs(pixels_of(response.content) - mean_of_5x5(values)).max() <= 0.51


def test_sigma_reaches_the_graph_and_the_answer_says_it(blur: TestClient) -> None:
    flat = np.full((16, 16), 200, np.uint8)

    response = blur.post("/denoise?sigma=25.5", content=png(flat))

    assert response.headers["x-sigma"] == "25.5"
    assert pixels_of(response.content)[8, 8] == 190  # 200 * (1 - 25.5 / 510)


def test_without_sigma_the_level_is_estimated(blur: TestClient) -> None:
    noisy = np.clip(128 + RNG.normal(0, 20, (200, 200)), 0, 255).astype(np.uint8)

    said = float(blur.post("/denoise", content=png(noisy)).headers["x-sigma"])

    assert said == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("sigma", [0.0, 5.0, 25.0, 50.0])
def test_the_estimate_is_right_beside_edges(sigma: float) -> None:
    picture = np.zeros((1, 300, 300), np.float32)
    picture[:, 100:, 50:] = 0.6
    noisy = picture + RNG.normal(0, sigma / 255, picture.shape).astype(np.float32)

    assert estimate_sigma(Image(noisy[None])) == pytest.approx(sigma, rel=0.03, abs=0.01)


@pytest.mark.parametrize("query", ["sigma=51", "sigma=-1", "sigma=300", "strength=1.5", "quality=0", "metadata=maybe"])
def test_what_cannot_be_is_refused(blur: TestClient, query: str) -> None:
    response = blur.post(f"/denoise?{query}", content=png(np.zeros((8, 8), np.uint8)))

    assert response.status_code == 422
    assert response.json()["code"] == "invalid-parameter"


def test_a_model_of_one_noise_takes_no_sigma(client: TestClient) -> None:
    response = client.post("/denoise?sigma=5", content=png(np.zeros((4, 4), np.uint8)))

    assert response.status_code == 422
    assert "leave it out" in response.json()["detail"]


def test_strength_blends(blur: TestClient, client: TestClient) -> None:
    values = RNG.integers(0, 256, (20, 20), np.uint8)
    full, half, none = (
        pixels_of(blur.post(f"/denoise?sigma=10&strength={s}", content=png(values)).content).astype(int)
        for s in (1, 0.5, 0)
    )

    assert (none == values).all()
    assert np.abs(half - (full + values) / 2).max() <= 1
    toy = client.post("/denoise?strength=0.5", content=png(np.full((4, 4), 100, np.uint8)))
    assert (pixels_of(toy.content) == 75).all()  # it halves


@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize(("path", "scale"), [("/denoise?sigma=0&", 1), ("/enhance?", 2)])
def test_thorough_is_the_mean_over_all_orientations(
    path: str,
    scale: int,
    models_dir: Path,
    make_client: MakeClient,
    *,
    tile: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = np.zeros((5, 5), np.float32)
    right[1, 3] = 1.0  # every pixel becomes its upper right neighbour
    publish_blur(models_dir, name="lopsided", scale=scale, weights=right)
    client = make_client()
    if tile:
        monkeypatch.setattr(tiles, "UNTILED_PIXELS", 0)
        monkeypatch.setattr(tiles.plan, "__kwdefaults__", {"tile": tile})
    values = RNG.integers(0, 256, (24, 36), np.uint8)

    plain, thorough = (
        pixels_of(client.post(f"{path}model=lopsided&thorough={way}", content=png(values)).content)
        for way in ("false", "true")
    )

    around = np.pad(values.astype(float), 1)
    corners = [around[i : i + 24, j : j + 36] for i in (0, 2) for j in (0, 2)]
    assert (plain[::scale, ::scale] == corners[1]).all()
    assert np.abs(thorough - np.mean(corners, axis=0).repeat(scale, 0).repeat(scale, 1)).max() <= 0.51


def test_a_model_of_one_size_takes_no_thorough(client: TestClient) -> None:
    response = client.post("/denoise?thorough=true", content=png(np.zeros((4, 4), np.uint8)))

    assert response.status_code == 422
    assert "leave it out" in response.json()["detail"]


def test_the_default_goes_by_colour(blur: TestClient) -> None:
    grey, colour = np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)

    def model_of(content: bytes) -> str:
        return blur.post("/denoise", content=content).headers["x-model"]

    jpegs = [save(PillowImage.fromarray(values), "JPEG") for values in (grey, colour)]
    arrays = [to_npy(np.zeros(shape, np.float32)) for shape in ((8, 8), (1, 8, 8), (3, 8, 8), (2, 3, 8, 8))]
    assert [model_of(png(grey)), model_of(png(colour))] == ["grey/1", "colour/1"]
    assert [model_of(jpeg) for jpeg in jpegs] == ["grey/1", "colour/1"]
    assert [model_of(array) for array in arrays] == ["grey/1", "grey/1", "colour/1", "colour/1"]


def test_a_grey_model_cleans_colour_plane_by_plane(blur: TestClient) -> None:
    values = RNG.integers(0, 256, (12, 12, 3), np.uint8)

    result = pixels_of(blur.post("/denoise?model=grey&sigma=0", content=png(values)).content)

    for plane in range(3):
        assert np.abs(result[..., plane] - mean_of_5x5(values[..., plane])).max() <= 0.51


def test_a_colour_model_cleans_grey_and_it_stays_grey(blur: TestClient) -> None:
    values = RNG.integers(0, 256, (12, 12), np.uint8)

    result = pixels_of(blur.post("/denoise?model=colour&sigma=0", content=png(values)).content)

    assert result.shape == (12, 12)
    assert np.abs(result - mean_of_5x5(values)).max() <= 1.51


def test_sixteen_bits_stay_sixteen_bits(blur: TestClient) -> None:
    values = RNG.integers(0, 65536, (12, 12), np.uint16)

    for name in ("PNG", "TIFF"):
        response = blur.post("/denoise?sigma=0", content=save(PillowImage.fromarray(values), name))
        assert response.headers["content-type"] == f"image/{name.lower()}"
        result = pixels_of(response.content)
        assert result.dtype == np.uint16
        assert np.abs(result - mean_of_5x5(values)).max() <= 1


def test_alpha_passes_through_denoise_and_is_enlarged_by_enhance(blur: TestClient) -> None:
    for channels in (2, 4):
        values = RNG.integers(0, 256, (16, 16, channels), np.uint8)
        values[..., -1] = 60  # flat: blurred it stays so, but at the border
        clean = pixels_of(blur.post("/denoise?sigma=0", content=png(values)).content)
        large = pixels_of(blur.post("/enhance", content=png(values)).content)
        assert (clean[..., -1] == 60).all()
        assert large.shape == (32, 32, channels)
        assert (large[4:-4, 4:-4, -1] == 60).all()


def test_enhance_keeps_the_colour_of_a_flat_picture(blur: TestClient) -> None:
    flat = np.empty((20, 24, 3), np.uint8)
    flat[:] = (200, 30, 90)

    response = blur.post("/enhance", content=png(flat))

    result = pixels_of(response.content)
    assert response.headers["x-model"] == "twice/1"
    assert "x-sigma" not in response.headers
    assert result.shape == (40, 48, 3)
    assert np.abs(result[4:-4, 4:-4].astype(int) - (200, 30, 90)).max() <= 1


def test_enhance_refuses_an_answer_that_is_too_large(models_dir: Path, make_client: MakeClient) -> None:
    publish_blur(models_dir, name="twice", scale=2)

    response = make_client(max_pixels=1000).post("/enhance", content=png(np.zeros((20, 20), np.uint8)))

    assert response.status_code == 413
    assert "40x40" in response.json()["detail"]


def test_the_answer_has_the_format_of_the_file(blur: TestClient) -> None:
    picture = PillowImage.fromarray(RNG.integers(0, 256, (16, 16, 3), np.uint8))

    kinds = {"JPEG": "jpeg", "WEBP": "webp", "TIFF": "tiff", "PNG": "png", "BMP": "png", "AVIF": "jpeg", "HEIF": "jpeg"}
    for name, kind in kinds.items():
        assert blur.post("/denoise", content=save(picture, name)).headers["content-type"] == f"image/{kind}"
    asked = blur.post("/denoise", content=save(picture, "JPEG"), headers={"Accept": "image/webp"})
    assert asked.headers["content-type"] == "image/webp"


def test_quality_makes_files_smaller(blur: TestClient) -> None:
    file = save(PillowImage.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), "JPEG", quality=95)

    low, high = (len(blur.post(f"/denoise?quality={q}", content=file).content) for q in (10, 100))

    assert low < high / 3


def test_profile_stays_and_other_data_only_if_asked_for(blur: TestClient) -> None:
    picture = PillowImage.fromarray(RNG.integers(0, 256, (8, 16, 3), np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6  # to be turned by 90 degrees

    for name in ("JPEG", "PNG", "WEBP", "TIFF"):
        file = save(picture, name, icc_profile=profile, exif=exif.tobytes())
        dropped, kept = (
            PillowImage.open(io.BytesIO(blur.post(f"/denoise?sigma=0&metadata={how}", content=file).content))
            for how in ("drop", "keep")
        )
        assert dropped.size == kept.size == (8, 16)  # upright
        assert dropped.info["icc_profile"] == kept.info["icc_profile"] == profile
        assert dropped.getexif().get(0x010F) is None
        assert kept.getexif()[0x010F] == "Maker"
        assert kept.getexif().get(0x0112, 1) == 1


def test_several_files_come_as_a_zip_in_order(blur: TestClient) -> None:
    files = [("file", (f"{i}.png", png(np.full((8, 8 + i), 10 * i, np.uint8)))) for i in range(3)]
    files.insert(1, ("file", ("broken.png", b"\x89PNG\r\n\x1a\nbroken")))

    response = blur.post("/denoise?sigma=3", files=files)

    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.namelist() == ["000_0.png", "002_1.png", "003_2.png", "results.json"]
        assert [pixels_of(archive.read(name)).shape[1] for name in archive.namelist()[:3]] == [8, 9, 10]
        assert b'"sigma":3.0' in archive.read("results.json").replace(b" ", b"")


def test_an_array_keeps_its_range_and_its_axes(blur: TestClient) -> None:
    counts = RNG.integers(-500, 3000, (20, 24, 3)).astype(np.int16)
    query = "/denoise?sigma=0&data_range=auto&layout=hwc"

    answer = from_npy(blur.post(query, content=to_npy(counts)).content)

    low, high = int(counts.min()), int(counts.max())
    assert answer.shape == counts.shape
    unit = (counts[..., 1].astype(np.float64) - low) / (high - low)
    assert answer[..., 1] == pytest.approx(mean_of_5x5(unit) * (high - low) + low, abs=0.01)
    refused = blur.post("/denoise?sigma=0&layout=hwc", content=png(np.zeros((8, 8), np.uint8)))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-parameter")
    assert blur.post("/denoise?data_range=0", content=to_npy(counts)).status_code == 422


def test_arrays_come_back_as_arrays(blur: TestClient) -> None:
    x = RNG.random((2, 3, 10, 9), np.float32)

    result = from_npy(blur.post("/denoise?sigma=0", content=to_npy(x)).content)

    assert result.shape == x.shape
    assert result.dtype == np.float32
    assert np.abs(result[1, 2] - mean_of_5x5(x[1, 2])).max() < 1e-5


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 64), (64, 64), (61, 130), (200, 3)])
def test_tiles_cover_every_pixel_once_and_see_the_halo(height: int, width: int) -> None:
    spec = InputSpec(channels=1, height=None, width=None, multiple_of=4, halo=6, resize="reject")
    seen = np.zeros((height, width), int)
    cell_height, cell_width = (-(-side // 4) * 4 for side in (height, width))
    for rows, columns in plan(height, width, spec, tile=16):
        seen[rows.start : rows.stop, columns.start : columns.stop] += 1
        for span, end in ((rows, cell_height), (columns, cell_width)):
            assert span.left % 4 == span.right % 4 == 0
            assert span.left == 0 or span.start - span.left >= 6
            assert span.right == end or span.right - span.stop >= 6
    assert (seen == 1).all()


@pytest.mark.parametrize("kind", ["grey", "colour", "twice", "large"])
def test_tiled_equals_untiled(models_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    publish_blur(models_dir, name="grey")
    publish_blur(models_dir, name="colour", channels=3)
    publish_blur(models_dir, name="twice", scale=2, luma_only=True)
    publish_blur(models_dir, name="large", scale=3, channels=3)
    values = RNG.integers(0, 256, (101, 67, 4), np.uint8)

    async def run() -> bytes:
        model = opened(models_dir, kind)
        is_enhance = "enhance" in model.manifest.tasks
        options = Options(sigma=None if is_enhance else 12.0)
        job = Restoration(ImageFile.of(png(values)), model.manifest, LIMITS, None, options, is_enhance)
        return (await job.run(next(iter(model.batcher_by_task.values())))).content

    untiled = pixels_of(asyncio.run(run())).astype(int)
    monkeypatch.setattr(tiles, "UNTILED_PIXELS", 0)
    monkeypatch.setattr(tiles, "TILE", 24)
    tiled = pixels_of(asyncio.run(run())).astype(int)

    assert np.abs(tiled - untiled).max() <= (1 if kind in {"twice", "large"} else 0)  # chroma and alpha by a filter


@pytest.mark.parametrize(("max_batch_pixels", "sizes"), [(2**20, [1] * 8), (2**21, [1, 2, 2, 2, 1])])
def test_tiles_of_two_pictures_share_an_inference_where_it_has_room_for_them(
    models_dir: Path, max_batch_pixels: int, sizes: list[int]
) -> None:
    publish_blur(models_dir)
    pictures = [png(RNG.integers(0, 256, (1536, 1536), np.uint8)) for _ in range(2)]  # 4 equal tiles each
    ran: list[int] = []

    async def run() -> tuple[list[bytes], list[bytes]]:
        model = opened(models_dir, "blur", max_batch_pixels=max_batch_pixels)
        batcher = model.batcher_by_task["denoise"]
        inner = batcher._runner.run

        def counted(*inputs: Array) -> object:
            ran.append(len(inputs[0]))
            deadline = time.monotonic() + 60
            while len(ran) == 1 and not batcher._queue:  # the second picture comes while the first one is under way
                assert time.monotonic() < deadline
                time.sleep(0.001)
            return inner(*inputs)

        def job(picture: bytes) -> Restoration:
            return Restoration(ImageFile.of(picture), model.manifest, LIMITS, None, Options(sigma=5.0))

        alone = [await job(picture).run(batcher) for picture in pictures]
        batcher._runner.run = counted  # type: ignore[assignment]
        first = asyncio.create_task(job(pictures[0]).run(batcher))
        while not ran:
            await asyncio.sleep(0.001)
        both = await asyncio.gather(first, job(pictures[1]).run(batcher))
        return [answer.content for answer in alone], [answer.content for answer in both]

    alone, both = asyncio.run(run())

    assert both == alone
    assert ran == sizes


@pytest.mark.parametrize("thorough", [False, True])
def test_a_finished_tile_holds_no_pixels(models_dir: Path, monkeypatch: pytest.MonkeyPatch, thorough: bool) -> None:
    monkeypatch.setattr(tiles, "UNTILED_PIXELS", 0)
    monkeypatch.setattr(tiles, "TILE", 24)
    publish_blur(models_dir)
    file = ImageFile.of(png(RNG.integers(0, 256, (60, 60, 3), np.uint8)))
    whole = Restoration(file, opened(models_dir, "blur").manifest, LIMITS, None, Options(thorough=thorough))
    whole.read()
    all_tiles = list(whole.tiles())

    for tile in all_tiles:
        while not tile.is_done:
            tile.finish(tile.prepare())

    assert len(all_tiles) > 1
    assert not [tile for tile in all_tiles if tile.totals]  # all tiles together are four times as large as the picture


def test_a_client_that_leaves_stops_the_work(models_dir: Path) -> None:
    publish_blur(models_dir)
    ran = 0

    async def run() -> None:
        nonlocal ran
        model = opened(models_dir, "blur")
        batcher = model.batcher_by_task["denoise"]
        inner = batcher._runner.run

        def counted(*inputs: Array) -> object:
            nonlocal ran
            ran += 1
            return inner(*inputs)

        batcher._runner.run = counted  # type: ignore[assignment]
        big = ImageFile.of(png(np.zeros((3000, 3000), np.uint8)))  # 16 tiles
        restoration = Restoration(big, model.manifest, LIMITS, None)
        task = asyncio.create_task(restoration.run(batcher))
        while not ran:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.2)

    asyncio.run(run())

    assert ran <= 4


def test_models_of_one_size_still_come_first_where_they_claim(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, default_for=["denoise"])
    publish_blur(models_dir)

    response = make_client().post("/denoise", content=png(np.full((4, 4), 100, np.uint8)))

    assert response.headers["x-model"] == "toy/1"


def test_no_more_pictures_are_held_than_there_is_room_for(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_blur(models_dir)
    held, most = 0, 0
    read, write = Restoration.read, Restoration.write

    def reading(self: Restoration) -> None:
        nonlocal held, most
        held += 1
        most = max(most, held)
        read(self)

    def writing(self: Restoration) -> Answer:
        nonlocal held
        held -= 1
        return write(self)

    monkeypatch.setattr(Restoration, "read", reading)
    monkeypatch.setattr(Restoration, "write", writing)
    room = 20 * 2**20  # a picture takes some 5 MB
    client = make_client(max_memory_bytes=room, request_timeout_s=600)
    large = png(np.zeros((1100, 1100), np.uint8))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/denoise?sigma=1", content=large).status_code, range(8)))

    assert answers == [200] * 8
    assert most <= 4


def test_the_setting_decides_how_large_a_picture_may_be_and_not_pillow(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_blur(models_dir)
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 1000)
    palette = save(PillowImage.new("P", (200, 200)), "PNG")  # which our own reader leaves to Pillow

    assert make_client(max_pixels=40_000).post("/denoise?sigma=1", content=palette).status_code == 200
    assert PillowImage.MAX_IMAGE_PIXELS == 5 * 40_000  # as large as a picture that runs in tiles may be
