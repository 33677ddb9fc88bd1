"""The client and the command line, against a running service."""

import asyncio
import csv
import io
import os
import re
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from hourglass_client import (
    AsyncHourglass,
    BadRequest,
    Busy,
    Hourglass,
    Latent,
    Neighbour,
    NotAllowed,
    NotFound,
    Picture,
    Problem,
    Region,
    TooLarge,
    Unreachable,
    verdict_frame,
)
from hourglass_client.__main__ import main
from hourglass_client.answers import NPY_TYPE, Verdict
from hourglass_client.bodies import Body, ImageLike, to_form
from hourglass_client.retry import Retry
from tests.service.files import pixels_of, png
from tests.service.nanmodel import publish_ignoring
from tests.service.slowmodel import Process, service_process
from tests.service.toymodels import publish_codec, publish_toy

LEVELS = np.full((4, 4), 100, np.uint8)
NEVER = Retry(times=0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory, default_for=["anomaly"])
    publish_codec(directory, name="writer")
    publish_ignoring(directory, name="toy-ignoring")
    with service_process(directory, "--max-pixels", "10000") as process:
        yield process


@pytest.fixture(scope="module")
def url(served: Process) -> str:
    return f"http://127.0.0.1:{served.port}"


@pytest.fixture
def hourglass(url: str) -> Iterator[Hourglass]:
    with Hourglass(url) as hourglass:
        yield hourglass


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "level.png"
    path.write_bytes(png(LEVELS))
    return path


def format_of(path: Path) -> str | None:
    with Image.open(path) as picture:
        return picture.format


def test_a_job_has_the_result_that_the_method_has(hourglass: Hourglass, image: Path) -> None:
    job = hourglass.submit("denoise", image, model="toy", accept="image/webp")
    picture = hourglass.wait(job)
    verdict = hourglass.wait(hourglass.submit("anomaly", image))
    latent = hourglass.wait(hourglass.submit("encode", image))

    assert picture == hourglass.denoise(image, model="toy", accept="image/webp")
    assert verdict == hourglass.anomaly(image)
    assert isinstance(latent, Latent)
    assert (latent.values == hourglass.encode(image).values).all()
    with pytest.raises(NotFound, match="no job"):  # it was taken, and nobody needs it any more
        hourglass.job(job)


@pytest.mark.parametrize("accept", [None, NPY_TYPE])
def test_a_job_takes_a_mask_of_what_to_ignore(hourglass: Hourglass, accept: str | None) -> None:
    image, half = np.zeros((2, 32, 32), np.uint8)
    image[8, 8] = half[:, :16] = 255

    found = hourglass.wait(hourglass.submit("anomaly", image, ignore=half, model="toy-ignoring", accept=accept))

    assert not (found.is_anomalous if isinstance(found, Verdict) else found.array().any())  # type: ignore[union-attr]


def test_a_job_that_fails_raises_the_problem_of_the_request(hourglass: Hourglass) -> None:
    job = hourglass.submit("denoise", b"no image")

    with pytest.raises(BadRequest, match="is not a PNG"):
        hourglass.wait(job)
    with pytest.raises(ValueError, match="'decode' cannot run as a job"):
        hourglass.submit("decode", b"no image")
    with pytest.raises(ValueError, match="'denoise' takes no mask"):
        hourglass.submit("denoise", b"no image", ignore=b"no mask")


def test_jobs_can_be_awaited_and_cancelled(url: str, image: Path) -> None:
    async def ask() -> Picture:
        async with AsyncHourglass(url) as hourglass:
            await hourglass.cancel(await hourglass.submit("denoise", image))
            found = await hourglass.wait(await hourglass.submit("denoise", image))
            assert isinstance(found, Picture)
            return found

    assert (pixels_of(asyncio.run(ask()).content) == 50).all()


def test_images_go_in_as_paths_bytes_pillow_and_arrays(hourglass: Hourglass, image: Path) -> None:
    kinds: tuple[ImageLike, ...] = (image, str(image), image.read_bytes(), Image.fromarray(LEVELS))

    for kind in kinds:
        answer = hourglass.denoise(kind)
        assert (answer.array() == 50).all()
        assert np.array_equal(np.asarray(answer.pil()), answer.array())
        assert (answer.media_type, answer.model) == ("image/png", "toy/1")
    floats = hourglass.denoise(np.full((4, 4), 0.5))  # float64
    assert floats.array().dtype == np.float32
    assert (floats.array() == 0.25).all()
    with pytest.raises(TypeError, match="not list"):
        hourglass.denoise([1, 2])  # type: ignore[arg-type]


def test_the_answer_has_the_form_that_was_asked_for(hourglass: Hourglass, image: Path, tmp_path: Path) -> None:
    answer = hourglass.denoise(image, accept="image/webp")
    answer.save(tmp_path / "clean.webp")

    assert answer.media_type == "image/webp"
    assert format_of(tmp_path / "clean.webp") == "WEBP"


def test_latents_go_out_and_in_again(hourglass: Hourglass, image: Path) -> None:
    latent = hourglass.encode(image)

    assert latent.model == "toy/1"
    assert latent.values.tolist() == pytest.approx([100 / 255] * 4)
    assert (hourglass.decode(latent).array() == 100).all()
    assert (hourglass.decode([1.0, 0.0, 0.0, 1.0]).array()[0] == [255, 255, 0, 0]).all()


def test_images_are_compressed_into_one_file_and_come_back(hourglass: Hourglass, image: Path, tmp_path: Path) -> None:
    one = hourglass.compress(image)
    several = hourglass.compress([image, LEVELS, png(LEVELS)], rate=1)
    several.save(tmp_path / "several.hg")

    assert one.model == "writer/1"
    assert (hourglass.decompress(one).array() == 128).all()  # 1.6 quarters are 2
    assert hourglass.decompress(tmp_path / "several.hg", accept="application/x-npy").array().shape == (3, 1, 4, 4)
    with pytest.raises(BadRequest, match="CRC32"):
        hourglass.decompress(one.content[:-1])


def test_images_are_put_into_a_collection_found_and_classified(hourglass: Hourglass, image: Path) -> None:
    kept = hourglass.put_item("parts", "lot 1/ü.png", image, label="bolt", metadata={"lot": "ü"})
    hourglass.put_item("parts", "other", np.zeros((4, 4), np.uint8))
    latent = hourglass.encode(image)

    assert (kept["id"], kept["model"]) == ("lot 1/ü.png", "toy")
    for query in (image, latent):
        nearest, other = hourglass.search("parts", query, k=2)
        assert nearest == Neighbour("lot 1/ü.png", 0.0, "bolt", {"lot": "ü"})
        assert other.id == "other"
    found = hourglass.classify("parts", image)
    assert (found.label, found.confidence, dict(found.labels)) == ("bolt", 1.0, {"bolt": 1.0})
    kept_latent = np.array(hourglass.item("parts", "lot 1/ü.png")["latent"], np.float32)
    assert kept_latent.tobytes() == latent.values.tobytes()
    assert [c["items"] for c in hourglass.collections()] == [2]
    hourglass.delete_item("parts", "lot 1/ü.png")
    with pytest.raises(NotFound, match="item-not-found"):
        hourglass.item("parts", "lot 1/ü.png")
    with pytest.raises(BadRequest, match="no-labels"):
        hourglass.classify("parts", image)
    hourglass.delete_collection("parts")
    assert hourglass.collections() == []


def test_collections_are_listed_page_by_page(
    hourglass: Hourglass, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hourglass_client.calls.COLLECTIONS_PAGE", 1)
    names = ["a", "b"]
    for name in names:
        hourglass.put_item(name, "x", image)

    assert [c["collection"] for c in hourglass.collections()] == names

    for name in names:
        hourglass.delete_collection(name)


def test_a_verdict_has_its_parts(hourglass: Hourglass) -> None:
    spot = np.zeros((4, 4), np.uint8)
    spot[1, 2] = 255

    verdict = hourglass.anomaly(spot)
    moved = hourglass.anomaly(spot, max_fpr=0.99)

    assert verdict.score == pytest.approx(1 / 16)
    assert (verdict.is_anomalous, verdict.regions) == (False, ())
    assert (verdict.max_fpr, verdict.calibration_images, verdict.smallest_fpr) == (0.05, 99, 0.01)
    assert verdict.map_threshold == pytest.approx(0.94, abs=1e-6)
    assert moved.is_anomalous
    assert moved.regions == (Region(x=2, y=1, width=1, height=1, area=1, peak=1.0),)
    assert hourglass.heatmap(spot).array().shape == (3, 4, 4)
    assert not hourglass.mask(spot).array().any()
    np.testing.assert_array_equal(hourglass.mask(spot, max_fpr=0.99).array(), spot > 0)


@pytest.mark.parametrize("mask", [np.eye(4, dtype=bool), png(np.eye(4, dtype=np.uint8) * 255)])
def test_a_mask_of_what_to_ignore_is_sent_beside_the_image(hourglass: Hourglass, mask: ImageLike) -> None:
    for ask in (hourglass.anomaly, hourglass.heatmap, hourglass.mask):
        with pytest.raises(Problem, match="toy/1 cannot ignore pixels"):  # so the service has read it
            ask(LEVELS, ignore=mask)


def test_the_models_are_listed(hourglass: Hourglass) -> None:
    model, *_ = hourglass.models()

    assert (model.name, model.version, set(model.tasks)) == ("toy", 1, {"denoise", "encode", "decode", "anomaly"})
    assert hourglass.model("toy")["architecture"] == "toy"
    assert hourglass.ready()["provider"] == "CPUExecutionProvider"


def test_an_alias_is_made_used_rolled_back_and_deleted(hourglass: Hourglass, image: Path) -> None:
    made = hourglass.set_alias("toy", "prod", 1)

    assert hourglass.denoise(image, model="toy@prod").model == "toy/1"
    assert hourglass.aliases("toy") == [made]
    assert repr(made) == "<Alias toy@prod: version 1>"
    with pytest.raises(NotFound, match="it has 1"):
        hourglass.set_alias("toy", "prod", 1, candidate=2, share=0.1)
    with pytest.raises(Problem, match="nor a previous version"):
        hourglass.roll_back("toy", "prod")
    hourglass.delete_alias("toy", "prod")
    assert hourglass.aliases("toy") == []


def test_problems_are_typed_exceptions(hourglass: Hourglass, image: Path) -> None:
    with pytest.raises(BadRequest, match="the image starts with") as broken:
        hourglass.denoise(b"no image")
    assert (broken.value.status, broken.value.code) == (415, "unsupported-media-type")
    with pytest.raises(NotFound, match="no model 'none'; live models: toy"):
        hourglass.denoise(image, model="none")
    with pytest.raises(TooLarge):
        hourglass.denoise(np.zeros((200, 200), np.uint8))
    with pytest.raises(FileNotFoundError):
        hourglass.denoise("nowhere.png")


def test_answers_describe_themselves_in_a_line_and_show_themselves_in_a_notebook(hourglass: Hourglass) -> None:
    picture = hourglass.denoise(LEVELS, accept="image/webp")

    assert repr(picture) == f"<Picture image/webp, {len(picture.content)} bytes, by toy/1>"
    assert (pixels_of(picture._repr_png_() or b"")[..., 0] == 50).all()
    assert hourglass.denoise(png(LEVELS))._repr_png_() == hourglass.denoise(png(LEVELS)).content
    assert hourglass.denoise(LEVELS)._repr_png_() is None  # an array was answered with an array
    assert repr(hourglass.encode(LEVELS)) == "<Latent (4,), by toy/1>"
    assert repr(hourglass.anomaly(LEVELS)) == "<Verdict normal, score 0.1538, p = 0.84, 0 regions, by toy/1>"
    assert repr(hourglass.models()[0]).startswith("<Model toy/1: ")
    assert re.fullmatch(r"<Hourglass http://127.0.0.1:\d+/?>", repr(hourglass))


def test_arrays_of_opencv_go_in_and_come_out_as_they_are(url: str) -> None:
    rng = np.random.default_rng(3)
    bgr = rng.integers(0, 256, (4, 4, 3), np.uint8)
    rgb = np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))
    with Hourglass(url) as torch, Hourglass(url, layout="hwc", channels="bgr") as opencv:
        expected, got = torch.heatmap(rgb, max_fpr=0.99).array(), opencv.heatmap(bgr, max_fpr=0.99).array()
        grey, latent = opencv.denoise(LEVELS).array(), opencv.encode(bgr)
        scores = opencv.heatmap(np.stack([bgr, bgr]), accept="application/x-npy").array()

        assert (got.transpose(2, 0, 1)[::-1] == expected).all()
        assert grey.shape == (4, 4)
        np.testing.assert_array_equal(latent.values, torch.encode(rgb).values)
        assert scores.shape == (2, 4, 4)  # a map has no channels to be moved
        with pytest.raises(ValueError, match="is its layout chw"):
            opencv.denoise(np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(ValueError, match="must be chw or hwc"):
        Hourglass(url, layout="nhwc")  # type: ignore[arg-type]


def test_verdicts_become_a_data_frame(hourglass: Hourglass, folder: Path) -> None:
    pytest.importorskip("pandas")

    frame = verdict_frame(hourglass.each(hourglass.anomaly, [folder]))

    assert len(frame) == 11
    assert frame["is_anomalous"].sum() == 1
    assert frame["problem"].notna().sum() == 1
    assert frame.loc[frame["problem"].notna(), "file"].item() == str(folder / "broken.png")


def test_the_name_of_a_file_is_sent_with_it() -> None:
    form = to_form([Body(b"1", "image/png", 'a "b"\r\n.png'), Body(b"2", "image/png")])

    assert b'filename="a %22b%22%0D%0A.png"' in form.content
    assert b'filename="image"' in form.content


def test_a_key_is_sent(tmp_path: Path, image: Path) -> None:
    publish_toy(tmp_path / "models")
    with service_process(tmp_path / "models", "--api-keys", "a-key-of-sixteen-letters") as process:
        url = process.url
        with Hourglass(url) as stranger, pytest.raises(NotAllowed):
            stranger.denoise(image)
        with Hourglass(url, key="a-key-of-sixteen-letters") as friend:
            assert (friend.denoise(image).array() == 50).all()


def test_the_asyncio_client_does_the_same(url: str, image: Path) -> None:
    async def ask() -> None:
        async with AsyncHourglass(url) as hourglass:
            many = await asyncio.gather(*(hourglass.denoise(image) for _ in range(20)))
            assert all((answer.array() == 50).all() for answer in many)
            latent = await hourglass.encode(image)
            assert (await hourglass.decode(latent)).array()[0, 0] == 100
            compressed = await hourglass.compress([image, image])
            assert (await hourglass.decompress(compressed)).media_type == "application/zip"
            assert (await hourglass.anomaly(image)).model == "toy/1"
            assert (await hourglass.heatmap(image)).array().shape == (3, 4, 4)
            assert (await hourglass.mask(image, max_fpr=0.99)).array().all()
            assert [model.name for model in await hourglass.models()] == ["toy", "toy-ignoring", "writer"]
            assert (await hourglass.model("toy"))["version"] == 1
            assert (await hourglass.ready())["status"] == "ready"
            assert (await hourglass.set_alias("toy", "async", 1)).version == 1
            with pytest.raises(Problem):
                await hourglass.roll_back("toy", "async")
            await hourglass.delete_alias("toy", "async")
            assert await hourglass.aliases("toy") == []
            await hourglass.put_item("async", "a", latent, label="x")
            assert (await hourglass.item("async", "a"))["label"] == "x"
            assert [found.id for found in await hourglass.search("async", image)] == ["a"]
            assert (await hourglass.classify("async", latent)).label == "x"
            assert [c["collection"] for c in await hourglass.collections()] == ["async"]
            await hourglass.delete_item("async", "a")
            await hourglass.delete_collection("async")
            with pytest.raises(NotFound):
                await hourglass.denoise(image, model="none")

    asyncio.run(ask())


# --- patience ---


class Grumpy(BaseHTTPRequestHandler):
    """Answers 503 as often as its server says, then 200."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        assert isinstance(server, GrumpyServer)
        server.asked += 1
        is_busy = server.asked <= server.refusals
        body = b'{"code": "queue-full", "detail": "too much"}' if is_busy else png(LEVELS)
        self.send_response(503 if is_busy else 200)
        if is_busy and server.retry_after is not None:
            self.send_header("Retry-After", server.retry_after)
        self.send_header("Content-Type", "application/problem+json" if is_busy else "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class GrumpyServer(ThreadingHTTPServer):
    asked = 0

    def __init__(self, refusals: int, retry_after: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Grumpy)
        self.refusals, self.retry_after = refusals, retry_after
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def test_a_busy_service_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)

    with GrumpyServer(2, "7") as server, Hourglass(server.url) as hourglass:
        hourglass.denoise(png(LEVELS))

        assert server.asked == 3
        assert pauses == [7, 7]


def test_a_delete_whose_answer_was_lost_has_been_done(url: str, hourglass: Hourglass) -> None:
    hourglass.put_item("lost", "a", LEVELS)

    class Lossy(httpx.BaseTransport):
        def __init__(self) -> None:
            self.inner, self.asked = httpx.HTTPTransport(), 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = self.inner.handle_request(request)
            self.asked += 1
            if self.asked == 1:
                response.read()
                raise httpx.ReadError("the answer was lost")
            return response

        def close(self) -> None:
            self.inner.close()

    with Hourglass(url, transport=Lossy(), retry=Retry(first_s=0.01)) as lossy:
        lossy.delete_item("lost", "a")
        with pytest.raises(NotFound):
            lossy.delete_item("lost", "a")  # this one was answered at once
    with pytest.raises(NotFound):
        hourglass.item("lost", "a")
    hourglass.delete_collection("lost")


def test_an_address_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("127.0.0.1:8000", "ftp://127.0.0.1", "http://[::1"):
        assert main(["--url", url, "models"]) == 2
        assert "hourglass: " in capsys.readouterr().err


def test_patience_ends(image: Path) -> None:
    retry = Retry(times=2, first_s=0.01)
    with GrumpyServer(99, None) as server:
        with Hourglass(server.url, retry=retry) as hourglass, pytest.raises(Busy, match="too much"):
            hourglass.denoise(image)
        assert server.asked == 3

        async def ask() -> None:
            async with AsyncHourglass(server.url, retry=retry) as hourglass:
                await hourglass.denoise(image)

        with pytest.raises(Busy):
            asyncio.run(ask())
        assert server.asked == 6


def test_a_service_that_is_not_there_is_named() -> None:
    with (
        Hourglass("http://127.0.0.1:9", retry=Retry(times=1, first_s=0.01)) as hourglass,
        pytest.raises(Unreachable, match=r"http://127.0.0.1:9.* does not answer"),
    ):
        hourglass.models()


def test_pauses_follow_retry_after_and_grow_without_it() -> None:
    retry = Retry(times=3, first_s=1.0, most_s=30.0)

    assert retry.pause_s(0, 503, {"retry-after": "7"}) == 7
    in_ten = retry.pause_s(0, 503, {"retry-after": formatdate(time.time() + 10, usegmt=True)})
    assert in_ten is not None
    assert 8 < in_ten <= 10
    assert retry.pause_s(0, 503, {"retry-after": "31"}) is None
    assert retry.pause_s(0, 422, {}) is None
    assert retry.pause_s(0, 504, {}) is None
    assert retry.pause_s(3, 503, {}) is None
    for attempt in range(3):
        pause = retry.pause_s(attempt, None, {})
        assert pause is not None
        assert 0.5 * 2**attempt <= pause <= 2**attempt


# --- folders and the command line ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    (folder / "deeper").mkdir(parents=True)
    for i in range(9):
        (folder / f"{i}.png").write_bytes(png(np.full((4, 4), 20 * i, np.uint8)))
    (folder / "deeper" / "bright.PNG").write_bytes(png(np.full((4, 4), 250, np.uint8)))
    (folder / "notes.txt").write_text("no image")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "broken.png").write_bytes(png(LEVELS)[:40])
    return folder


def test_a_folder_is_asked_in_order_and_a_problem_stops_nothing(hourglass: Hourglass, folder: Path) -> None:
    results = list(hourglass.each(hourglass.denoise, [folder], at_once=3))

    assert [path.name for path, _ in results] == [*(f"{i}.png" for i in range(9)), "broken.png", "bright.PNG"]
    levels = [result.array()[0, 0] for _, result in results if isinstance(result, Picture)]
    assert levels == [*range(0, 90, 10), 125]
    (problem,) = [result for _, result in results if not isinstance(result, Picture)]
    assert isinstance(problem, BadRequest)


def test_the_asyncio_client_asks_a_folder_in_order_too(url: str, folder: Path) -> None:
    async def ask() -> list[tuple[Path, object]]:
        async with AsyncHourglass(url) as hourglass:
            return [result async for result in hourglass.each(hourglass.denoise, [folder], at_once=3)]

    with Hourglass(url) as hourglass:
        expected = [(file, str(result)) for file, result in hourglass.each(hourglass.denoise, [folder])]

    assert [(file, str(result)) for file, result in asyncio.run(ask())] == expected


def test_who_stops_listening_does_not_wait_for_the_rest(hourglass: Hourglass, folder: Path) -> None:
    asked = []

    def ask(file: Path) -> None:
        asked.append(file)

    for _ in hourglass.each(ask, [folder], at_once=1):
        break

    assert len(asked) <= 4


def run(url: str, *words: str | Path) -> int:
    return main(["--url", url, *map(str, words)])


def test_denoise_writes_one_file_or_a_folder(
    url: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url, "denoise", folder / "5.png", tmp_path / "one.webp") == 0
    assert format_of(tmp_path / "one.webp") == "WEBP"

    assert run(url, "denoise", folder, tmp_path / "clean") == 1
    assert f"{folder / 'broken.png'}: PNG" in capsys.readouterr().err
    assert pixels_of((tmp_path / "clean" / "5.png").read_bytes())[0, 0] == 50
    assert pixels_of((tmp_path / "clean" / "deeper" / "bright.png").read_bytes())[0, 0] == 125
    assert not (tmp_path / "clean" / "broken.png").exists()


def test_files_that_would_overwrite_each_other_are_refused_before_anything_is_done(
    url: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "deeper" / "5.jpg").write_bytes(png(LEVELS))

    assert run(url, "denoise", folder / "5.png", folder / "deeper" / "5.jpg", tmp_path / "clean") == 2

    assert "would both become" in capsys.readouterr().err
    assert not (tmp_path / "clean").exists()


def test_anomaly_prints_sentences_and_ends_with_what_it_found(
    url: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = folder / "0.png", folder / "deeper" / "bright.PNG"

    assert run(url, "anomaly", good) == 0
    assert capsys.readouterr().out == f"{good}: normal, score 0, p = 1\n"
    assert run(url, "anomaly", good, bad) == 3
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1] == f"{bad}: ANOMALOUS, score 0.9612, p = 0.03, 4x4 at (0, 0)"
    assert printed.err == "2 images, 1 anomalous\n"
    assert run(url, "anomaly", folder) == 1
    assert "11 images, 1 anomalous, 1 could not be judged\n" in capsys.readouterr().err
    assert run(url, "anomaly", "--max-fpr", "0.99", good) == 0
    assert run(url, "anomaly", "--max-fpr", "0.99", folder / "8.png") == 3


def test_anomaly_writes_a_table_with_a_row_for_every_file(
    url: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url, "anomaly", folder, "--csv", tmp_path / "verdicts.csv") == 1
    assert run(url, "anomaly", folder, "--csv") == 1

    rows = list(csv.DictReader(io.StringIO((tmp_path / "verdicts.csv").read_text())))
    assert rows == list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["is_anomalous"] for row in rows] == [*"000000000", "", "1"]
    assert float(rows[-1]["score"]) == pytest.approx((250 / 255) ** 2)
    assert [rows[-1][name] for name in ("regions", "x", "y", "width", "height")] == [*"10044"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["verdicts.csv"]


def test_anomaly_draws_heat_maps_of_what_is_anomalous(url: str, folder: Path, tmp_path: Path) -> None:
    run(url, "anomaly", folder, "--heatmaps", tmp_path / "bad")

    drawn = [path for path in (tmp_path / "bad").rglob("*") if path.is_file()]
    assert drawn == [tmp_path / "bad" / "deeper" / "bright.png"]
    assert pixels_of(drawn[0].read_bytes()).shape == (4, 4, 3)


def test_anomaly_sends_a_mask_of_what_to_ignore(
    url: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mask.png").write_bytes(png(np.eye(4, dtype=np.uint8) * 255))

    assert run(url, "anomaly", image, "--ignore", tmp_path / "mask.png") == 1
    assert "toy/1 cannot ignore pixels" in capsys.readouterr().err


def test_heatmap_and_mask_draw_pictures(url: str, folder: Path, tmp_path: Path) -> None:
    bright = folder / "deeper" / "bright.PNG"

    assert run(url, "heatmap", bright, tmp_path / "heat.webp") == 0
    assert run(url, "mask", bright, tmp_path / "mask.png") == 0
    assert run(url, "mask", "--max-fpr", "0.01", bright, tmp_path / "none.png") == 0

    assert format_of(tmp_path / "heat.webp") == "WEBP"
    assert pixels_of((tmp_path / "mask.png").read_bytes()).all()
    assert not pixels_of((tmp_path / "none.png").read_bytes()).any()


def test_anomaly_warns_where_the_calibration_is_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = {"score": "any", "target_fpr": 0.01, "threshold": 0.5, "scores": (0.1, 0.2, 0.3)}
    publish_toy(tmp_path / "models", manifest_changes={"anomaly": few})
    (tmp_path / "dark.png").write_bytes(png(np.zeros((4, 4), np.uint8)))
    with service_process(tmp_path / "models") as process:
        assert run(process.url, "anomaly", tmp_path / "dark.png") == 0

    assert capsys.readouterr().err == (
        "toy/1 was calibrated with 3 images, too few for its rate of 0.01: up to 0.25 of normal images may be flagged\n"
    )


def test_anomaly_says_where_most_images_are_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learnt = {"widths": (4, 4), "heights": (4, 4), "looks": {"brightness": (0.9, 1.0)}}
    knows = {"score": "any", "target_fpr": 0.5, "threshold": 0.5, "scores": (0.1, 0.2, 0.3), "learnt": learnt}
    publish_toy(tmp_path / "models", manifest_changes={"anomaly": knows})
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(png(np.zeros((4, 4), np.uint8)))
    with service_process(tmp_path / "models") as process:
        assert run(process.url, "anomaly", tmp_path / "a.png", tmp_path / "b.png") == 0

    printed = capsys.readouterr()
    dark = "brightness 0; learnt 0.9 to 1"
    assert printed.out.splitlines()[0].endswith(f"a.png: review, score 0, p = 1, unlike the training images: {dark}")
    assert f"2 of 2 are unlike the training images ({dark}), probably from another source" in printed.err


def test_encode_and_decode_fit_together(
    url: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url, "encode", image) == 0
    (tmp_path / "latent.json").write_text(capsys.readouterr().out)

    assert run(url, "decode", tmp_path / "latent.json", tmp_path / "again.png") == 0

    assert (pixels_of((tmp_path / "again.png").read_bytes()) == 100).all()


def test_compress_and_decompress_fit_together(
    url: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url, "compress", image, image, tmp_path / "two.hg", "--rate", "1") == 0
    assert "two.hg: 2 files of 146 bytes in 46 bytes" in capsys.readouterr().err

    assert run(url, "decompress", tmp_path / "two.hg", tmp_path / "two.npy") == 0

    assert np.load(tmp_path / "two.npy").shape == (2, 1, 4, 4)


def test_what_cannot_be_done_is_one_sentence(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (("denoise", "nowhere.png", str(tmp_path / "a.png")), "nowhere.png"),
        (("denoise", "only.png"), "give the image and the output file"),
        (("denoise", __file__, str(tmp_path / "a.xyz")), "an extension other than"),
        (("anomaly", str(tmp_path)), "no images in"),
        (("anomaly", __file__, "--csv", __file__), "ends in .csv"),
    ):
        assert run(url, *words) == 2
        assert sentence in capsys.readouterr().err


def test_the_command_lists_models(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(url, "models") == 0

    assert capsys.readouterr().out.startswith("toy/1: ")
