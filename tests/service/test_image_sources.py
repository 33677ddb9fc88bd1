"""Images that come as base64 in JSON, or by their address from hosts that the operator allows."""

import asyncio
import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.service.conftest import MakeClient
from tests.service.files import pixels_of, png, to_npy
from tests.service.test_jobs import ended
from tests.service.toymodels import publish_toy

LEVEL = png(np.full((4, 4), 100, np.uint8))


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def halved(content: bytes) -> bool:
    return bool((pixels_of(content) == 50).all())


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:;base64,"])
def test_an_image_may_come_as_base64_in_json(client: TestClient, prefix: str) -> None:
    answer = client.post("/denoise", json={"image": prefix + b64(LEVEL)})

    assert answer.status_code == 200, answer.text
    assert answer.content == client.post("/denoise", content=LEVEL).content


@pytest.mark.parametrize("path", ["/denoise", "/encode", "/anomaly"])
def test_base64_is_answered_like_the_file_itself(client: TestClient, path: str) -> None:
    as_json, as_file = client.post(path, json={"image": b64(LEVEL)}), client.post(path, content=LEVEL)

    assert (as_json.status_code, as_json.content) == (as_file.status_code, as_file.content)


def test_arrays_and_several_images_may_come_as_base64(client: TestClient) -> None:
    array = client.post("/denoise", json={"image": b64(to_npy(np.ones((4, 4), np.float32)))})
    several = client.post("/anomaly", json={"images": [b64(LEVEL), b64(b"torn"), b64(LEVEL)]}).json()

    assert array.headers["content-type"] == "application/x-npy"
    assert [entry.get("code") for entry in several] == [None, "unsupported-media-type", None]


@pytest.mark.parametrize(
    ("document", "status", "says"),
    [
        ({"image": "nonsense!"}, 422, "image is not base64"),
        ({"image": b64(LEVEL)[:-1]}, 422, "image is not base64"),
        ({"image": b64(LEVEL) + "\n"}, 422, "image is not base64"),
        ({"image": "größe"}, 422, "image is not base64"),
        ({"images": [b64(LEVEL), "===="]}, 422, "images[1] is not base64"),
        ({"images": [b64(LEVEL), 7]}, 422, "images[1] is 7"),
        ({"image": ""}, 422, "image is empty"),
        ({"images": []}, 422, '{"image": "<base64>"}'),
        ({"image": 7}, 422, '{"image": "<base64>"}'),
        ({"picture": b64(LEVEL)}, 422, '{"image": "<base64>"}'),
        ({"image": b64(LEVEL), "images": []}, 422, '{"image": "<base64>"}'),
        ([b64(LEVEL)], 422, '{"image": "<base64>"}'),
        ({"image": b64(b"torn")}, 415, ""),
    ],
)
def test_what_is_wrong_with_a_document_is_said(client: TestClient, document: object, status: int, says: str) -> None:
    answer = client.post("/denoise", json=document)

    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


def test_json_keeps_to_its_own_cap_and_to_the_most_images(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_json_bytes=2048, max_images=2)

    large = client.post("/denoise", json={"image": b64(bytes(2000))})
    many = client.post("/denoise", json={"images": [b64(LEVEL)] * 3})
    torn = client.post("/denoise", content=b'{"image": ', headers={"Content-Type": "application/json"})

    assert (large.status_code, "max_json_bytes" in large.json()["detail"]) == (413, True)
    assert (many.status_code, many.json()["code"]) == (413, "too-many-images")
    assert (torn.status_code, torn.json()["code"]) == (400, "malformed-body")


def test_a_job_takes_base64_too(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()

    taken = client.post("/denoise", json={"image": b64(LEVEL)}, headers={"Prefer": "respond-async"})

    location = taken.headers["location"]
    assert ended(client, location)["state"] == "done"
    assert halved(client.get(f"{location}/result").content)


# Addresses.


class Site:
    """A web server of pictures, and of what must not be followed. `asked` are the addresses that were."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if self.path == "/moved":
                    self.send_response(302)
                    self.send_header("Location", "/level.png")
                    self.end_headers()
                    return
                content = {"/level.png": LEVEL, "/large.png": bytes(4096), "/page": b"<html>"}.get(self.path)
                self.send_response(404 if content is None else 200)
                if self.path != "/large.png":  # whose length nobody declares
                    self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def fetching(site: Site, models_dir: Path, make_client: MakeClient) -> TestClient:
    publish_toy(models_dir)
    site.asked.clear()
    return make_client(image_hosts=(site.host,), max_body_bytes=2048)


@pytest.mark.parametrize("path", ["/denoise", "/encode", "/anomaly"])
def test_an_image_may_be_named_by_its_address(fetching: TestClient, site: Site, path: str) -> None:
    named = fetching.post(path, params={"image": f"http://{site.host}/level.png"})

    assert named.status_code == 200, named.text
    assert named.content == fetching.post(path, content=LEVEL).content


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/nothing", 502, "answers 404"),
        ("/moved", 502, "answers 302; redirects are not followed"),
        ("/large.png", 413, "max_body_bytes"),
        ("/page", 415, ""),
    ],
)
def test_what_a_host_answers_is_bounded_and_no_redirect_is_followed(
    fetching: TestClient, site: Site, path: str, status: int, says: str
) -> None:
    answer = fetching.post("/denoise", params={"image": f"http://{site.host}{path}"})

    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert site.asked == [path]


def test_an_address_and_a_body_are_refused_together(fetching: TestClient, site: Site) -> None:
    answer = fetching.post("/denoise", params={"image": f"http://{site.host}/level.png"}, content=LEVEL)

    assert (answer.status_code, site.asked) == (422, [])


def test_a_host_that_does_not_answer_in_time_is_named(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:  # it accepts, and says nothing
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        client = make_client(image_hosts=(host,), body_timeout_s=0.1)

        answer = client.post("/denoise", params={"image": f"http://{host}/a.png"})

    assert (answer.status_code, answer.json()["code"]) == (502, "image-unreachable")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a.png",
        "http://localhost/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.png",
        "http://images.example.evil.example/a.png",
        "http://images.example:22/a.png",
        "http://user:password@images.example/a.png",
        "file:///etc/passwd",
        "ftp://images.example/a.png",
        "nonsense",
    ],
)
def test_no_other_address_is_asked(models_dir: Path, make_client: MakeClient, url: str) -> None:
    publish_toy(models_dir)
    client = make_client(image_hosts=("images.example",))

    answer = client.post("/denoise", params={"image": url})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameter"), answer.text


def test_by_default_no_host_is_asked(client: TestClient, site: Site) -> None:
    site.asked.clear()

    answer = client.post("/denoise", params={"image": f"http://{site.host}/level.png"})

    assert (answer.status_code, site.asked) == (422, [])
    assert "image_hosts" in answer.json()["detail"]


def test_a_name_that_leads_into_the_own_network_is_not_asked(
    site: Site, models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(models_dir)
    port = site.server.server_port
    client = make_client(image_hosts=(f"*.images.example:{port}",))
    site.asked.clear()
    monkeypatch.setattr(
        "asyncio.base_events.BaseEventLoop.getaddrinfo",
        lambda *_, **__: asyncio.sleep(0, [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]),
    )

    answer = client.post("/denoise", params={"image": f"http://a.images.example:{port}/level.png"})

    assert (answer.status_code, site.asked) == (502, [])
    assert "private address 127.0.0.1" in answer.json()["detail"]


def test_a_job_fetches_its_image(fetching: TestClient, site: Site) -> None:
    url = f"http://{site.host}/level.png"
    taken = fetching.post("/denoise", params={"image": url}, headers={"Prefer": "respond-async"})

    location = taken.headers["location"]
    assert ended(fetching, location)["state"] == "done"
    assert halved(fetching.get(f"{location}/result").content)
