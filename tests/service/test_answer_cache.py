"""The same picture costs nothing twice where the operator allows it, and is never another picture's answer."""

import re
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.api.answer_cache import AnswerCache
from service.tasks.answer import Answer
from service.telemetry.counters import Meters
from tests.service.conftest import MakeClient
from tests.service.files import png
from tests.service.toymodels import publish_toy

MIB = 2**20
LEVEL, OTHER = (png(np.full((4, 4), level, np.uint8)) for level in (200, 100))


def figure(client: TestClient, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def hits(client: TestClient) -> float:
    return figure(client, 'hourglass_cache_requests_total{result="hit"}')


def runs(client: TestClient) -> float:
    return figure(client, 'hourglass_images_total{model="toy",task="denoise"}')


@pytest.fixture
def client(models_dir: Path, make_client: MakeClient) -> TestClient:
    publish_toy(models_dir)
    return make_client(max_cache_bytes=MIB)


def test_the_same_file_is_answered_alike_without_a_run(client: TestClient) -> None:
    first, second = (client.post("/denoise", content=LEVEL) for _ in range(2))

    assert second.content == first.content
    interesting = ("content-type", "x-model", "x-resize")
    assert [second.headers.get(name) for name in interesting] == [first.headers.get(name) for name in interesting]
    assert (runs(client), hits(client)) == (1, 1)
    assert figure(client, "hourglass_cache_bytes") >= len(first.content)


def test_a_form_and_a_plain_body_with_the_same_file_share_an_answer(client: TestClient) -> None:
    client.post("/denoise", content=LEVEL)

    reply = client.post("/denoise", files={"file": ("part.png", LEVEL, "image/png")})
    assert reply.status_code == 200, reply.text

    assert (runs(client), hits(client)) == (1, 1)


@pytest.mark.parametrize(
    ("query", "headers", "content"),
    [
        ("", {}, OTHER),
        ("?strength=0.5", {}, LEVEL),
        ("", {"Accept": "image/webp"}, LEVEL),
    ],
    ids=["another-file", "another-parameter", "another-format"],
)
def test_whatever_may_change_the_answer_is_part_of_what_is_asked(
    client: TestClient, query: str, headers: dict[str, str], content: bytes
) -> None:
    client.post("/denoise", content=LEVEL)

    client.post(f"/denoise{query}", content=content, headers=headers)

    assert (runs(client), hits(client)) == (2, 0)


def test_tasks_do_not_share_answers(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_cache_bytes=MIB)

    kinds = [client.post(path, content=LEVEL).headers["content-type"] for path in ("/denoise", "/encode", "/anomaly")]

    assert kinds == ["image/png", "application/json", "application/json"]
    assert hits(client) == 0


def test_a_new_version_answers_anew(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_cache_bytes=MIB, watch_interval_s=0.02)
    client.post("/denoise", content=LEVEL)
    publish_toy(models_dir, version=2)
    while (label := client.post("/denoise", content=LEVEL).headers["x-model"]) == "toy/1":
        pass

    assert label == "toy/2"


def test_a_refusal_is_not_kept(client: TestClient) -> None:
    codes = [client.post("/denoise", content=LEVEL[:40]).status_code for _ in range(2)]

    assert codes == [422, 422]
    assert hits(client) == 0


def test_nothing_is_kept_by_default(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()

    for _ in range(2):
        client.post("/denoise", content=LEVEL)

    assert (runs(client), hits(client), figure(client, "hourglass_cache_bytes")) == (2, 0, 0)


def test_what_was_not_asked_for_longest_leaves_first() -> None:
    cache = AnswerCache(10_000, Meters())
    a, b, c = (Answer("image/png", bytes([i]) * 2500) for i in range(3))
    cache.put(("a",), a)
    cache.put(("b",), b)
    cache.get(("a",))

    cache.put(("c",), c)

    assert [cache.get((name,)) for name in "abc"] == [a, None, c]
    assert cache.bytes <= 10_000


def test_an_answer_over_the_limit_is_not_kept_and_drives_nobody_out() -> None:
    cache = AnswerCache(10_000, Meters())
    small = Answer("image/png", b"small")
    cache.put(("small",), small)

    cache.put(("large",), Answer("image/png", bytes(10_000)))

    assert cache.get(("large",)) is None
    assert cache.get(("small",)) == small
