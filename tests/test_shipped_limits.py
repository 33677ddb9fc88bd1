"""The largest allowed request of every endpoint, in a cgroup with the memory that deploy/ gives a worker."""

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from fastapi import FastAPI
from PIL import Image as PillowImage

from benchmarks.commands import BenchmarkError
from benchmarks.memory_limit import MemoryLimit, memory_limit
from benchmarks.reliability.bodies import (
    FILE_CAP,
    JSON,
    JSON_CAP,
    ORDER_CAP,
    RAW,
    Body,
    flat_png,
    form,
    npy,
    repeated,
    tensor,
)
from benchmarks.reliability.watch import ask
from benchmarks.service import Service, newest
from service.api.app import create_app
from service.contract.colour import sizes_of_planes
from service.contract.container import Container, write_container
from service.contract.plane_coder import places_of, unpack_grids
from service.contract.range_coder import symbols_crc32
from service.contract.version import manifest_of
from service.images.inspect import peek
from service.settings import Settings
from service.tasks.compressed_file import compression_of, digests_of
from tests.service.toymodels import publish_blur

ROOT = Path(__file__).parent.parent
ARRAY = {"Accept": "application/x-npy"}
PATIENCE_S = 900.0  # on a machine however busy
# These work for a minute, tile by tile, and all tiles need the memory of the first. A client that does not wait for the
# last one saves that minute; digits and `twice` answer pictures of that size in seconds.
LEFT_AFTER_S = {"/enhance?model=photo-x2": 10.0, "/denoise?model=photo": 10.0}
SIDE = 4992  # of a square of 25 megapixels, in whole blocks of 8
UNITS = {"Mi": 2**20, "Gi": 2**30, "m": 2**20, "g": 2**30}


def bytes_of(text: str) -> int:
    """What Kubernetes and Docker write as 2Gi and 2g."""
    found = re.fullmatch(r"(\d+)([A-Za-z]+)", text)
    assert found is not None
    return int(found[1]) * UNITS[found[2]]


def shipped_limits() -> dict[str, int]:
    deployment = yaml.safe_load((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["x-service"]["mem_limit"]
    default = re.fullmatch(r"\$\{\w+:-(\w+)\}", compose)
    assert default is not None
    return {"kubernetes": bytes_of(container["resources"]["limits"]["memory"]), "compose": bytes_of(default[1])}


def large_file() -> bytes:
    """A file of /compress of few bytes that holds a picture of 25 megapixels."""
    manifest = manifest_of(newest("photo-compressed"))
    compression, (decoder, tables) = compression_of(manifest), digests_of(manifest)
    shapes = [places_of(*plane) for plane in sizes_of_planes(SIDE, SIDE, 3)]
    grid = compression.grid
    assert grid is not None
    symbols = unpack_grids(b"", shapes, compression.rates[0].tables_of_planes(3), grid)
    return write_container(
        Container(
            model=manifest.name,
            version=manifest.version,
            decoder=decoder,
            tables=tables,
            rate=0,
            count=1,
            sizes=((SIDE, SIDE),),
            symbols_crc32=symbols_crc32(*symbols),
            payload=b"",
            planes=3,
        )
    )


def binary_tensor(count: int, side: int) -> Body:
    """Images as bytes for /v2, to be answered in JSON."""
    data = bytes(4 * count * side * side)
    said = {
        "name": "x",
        "shape": [count, 1, side, side],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [said]}).encode()
    return Body(head + data, RAW | {"Inference-Header-Content-Length": str(len(head))})


# Route -> what is asked, and the largest that it takes. A route that is not here gets a body of its cap.
LARGEST: dict[str, tuple[str, Callable[[], Body]]] = {
    "/denoise": ("/denoise?model=digits", lambda: Body(flat_png(SIDE, SIDE, 4), RAW | ARRAY)),
    "/enhance": ("/enhance?model=photo-x2", lambda: Body(flat_png(2496, 2496, 4), RAW | ARRAY)),
    "/encode": ("/encode?model=digits", lambda: Body(flat_png(SIDE, SIDE, 4), RAW)),
    "/decode": ("/decode?model=digits", lambda: Body(npy((256, 32), bytes(4 * 256 * 32)), RAW | ARRAY)),
    "/anomaly": ("/anomaly?model=hazelnut&view=heatmap", lambda: Body(flat_png(SIDE, SIDE, 4), RAW)),
    "/generate": ("/generate?model=digits&view=sheet", lambda: Body(b'{"count":256}', JSON)),
    "/interpolate": (
        "/interpolate?model=digits&steps=256&view=animation",
        lambda: Body(json.dumps({"latents": [[3.0] * 32, [-3.0] * 32]}).encode(), JSON),
    ),
    "/compress": ("/compress", lambda: Body(flat_png(SIDE, SIDE, 3), RAW)),
    "/decompress": ("/decompress", lambda: Body(large_file(), RAW | ARRAY)),
    "/collections/{collection}/search": (
        "/collections/c/search?k=16",
        lambda: Body(npy((256, 32), bytes(4 * 256 * 32)), RAW),
    ),
    "/v2/models/{name}/infer": ("/v2/models/digits.denoise/infer", lambda: binary_tensor(256, 28)),
}
MORE: list[tuple[str, Callable[[], Body]]] = [
    ("/enhance?model=twice", lambda: Body(flat_png(2496, 2496, 4), RAW | ARRAY)),
    ("/denoise?model=photo", lambda: Body(flat_png(SIDE, SIDE, 4), RAW | ARRAY)),
    ("/denoise?model=digits", lambda: form(flat_png(312, 312, 4), 256)),
    ("/v2/models/scan.denoise/infer", lambda: binary_tensor(7, 1024)),
    ("/decode?model=digits", lambda: Body(tensor(repeated(b"0,", JSON_CAP - 200, start=b"[", end=b"0]"), (1,)), JSON)),
]


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route that reads a body."""
    for route in app.routes:
        for method in sorted(getattr(route, "methods", None) or ()):
            if method in {"POST", "PUT"}:
                yield method, getattr(route, "path", "")


@pytest.fixture(scope="module")
def limit() -> Iterator[MemoryLimit]:
    try:
        with memory_limit(min(shipped_limits().values())) as made:
            yield made
    except BenchmarkError as error:
        pytest.skip(str(error))


def ask_once_free(service: Service, method: str, url: str, body: Body) -> tuple[int, bytes]:
    """Status and body of the answer, after the work of a client that has left: that ends with its tile."""
    patience_s, end = LEFT_AFTER_S.get(url, PATIENCE_S), time.monotonic() + PATIENCE_S
    status, answer = 503, b""
    while status == 503 and time.monotonic() < end:
        status, answer = ask(service.port, method, url, body.content, body.headers, timeout_s=patience_s)
    return status, answer


@pytest.mark.slow
def test_the_largest_request_of_every_endpoint_fits_the_memory_that_is_shipped(
    limit: MemoryLimit, tmp_path: Path
) -> None:
    flags = ("--collections-url", f"sqlite:///{tmp_path}/items.db", "--request-timeout-s", "30")
    app = create_app(Settings(models_dir=ROOT / "models"))
    asked: list[tuple[str, str, Body]] = []
    for method, path in routes(app):
        url, make = LARGEST.get(path, (re.sub(r"\{\w+(:\w+)?\}", "digits", path), lambda: Body(bytes(FILE_CAP))))
        asked += [(method, url, make()), (method, url, Body(b"[" + b"0," * (ORDER_CAP // 2 - 2) + b"0]", JSON))]
    asked += [("POST", url, make()) for url, make in MORE]
    publish_blur(tmp_path / "models", name="twice", channels=3, scale=2)
    for model in (ROOT / "models").iterdir():
        (tmp_path / "models" / model.name).symlink_to(model)

    with Service(*flags, models=tmp_path / "models", prefix=limit.prefix) as service:
        ask(
            service.port,
            "PUT",
            "/collections/c/items/a?model=digits",
            json.dumps({"latent": [0.1] * 32}).encode(),
            JSON,
        )
        for method, url, body in asked:
            try:
                status, answer = ask_once_free(service, method, url, body)
            except TimeoutError:
                assert url in LEFT_AFTER_S, url
                status, answer = 0, b""

            assert service.process.popen.poll() is None, f"{method} {url} ended the service"
            assert status not in {500, 503}, (url, answer[:200])

        assert limit.peak_bytes < min(shipped_limits().values())


@pytest.mark.slow
def test_a_hundred_megapixels_fit_the_memory_that_is_shipped(limit: MemoryLimit, tmp_path: Path) -> None:
    publish_blur(tmp_path / "models", name="colour", channels=3, default_for=["denoise"])
    jpeg = io.BytesIO()
    PillowImage.new("RGB", (10_000, 10_000), (90, 120, 60)).save(jpeg, "JPEG", progressive=True)
    flags = ("--collections-url", f"sqlite:///{tmp_path}/items.db", "--request-timeout-s", "300")

    with Service(*flags, models=tmp_path / "models", prefix=limit.prefix) as service:
        for picture in (jpeg.getvalue(), flat_png(10_000, 10_000, 3), flat_png(10_000, 10_000, 1)):
            status, answer = ask(service.port, "POST", "/denoise", picture, RAW, timeout_s=PATIENCE_S)

            assert service.process.popen.poll() is None
            assert (status, peek(answer).pixels) == (200, 10**8)


def test_both_ways_to_deploy_give_a_worker_the_same_memory_and_cores() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()

    assert len(set(shipped_limits().values())) == 1
    assert re.search(r"^  cpus: ", compose, re.MULTILINE)
