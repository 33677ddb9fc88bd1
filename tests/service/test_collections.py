"""Collections from outside: images go in, and the nearest come back. `toy` encodes the mean of each quadrant."""

import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import numpy as np
import pytest
from starlette.testclient import TestClient

from service.api.app import App
from service.api.collection_schemas import read_metadata
from service.collections.store import Entry, Neighbour
from service.collections.store.sqlite import SqliteStore
from service.collections.voting import vote
from service.errors import InvalidMetadata
from service.http.budget import Hold, Load
from tests.service.conftest import MakeClient
from tests.service.files import Array, png, to_npy
from tests.service.toymodels import publish_toy


def quadrants(a: int, b: int, c: int, d: int) -> bytes:
    """A 4x4 PNG whose latent is (a, b, c, d) / 255."""
    return png(np.kron(np.array([[a, b], [c, d]], np.uint8), np.ones((2, 2), np.uint8)))


def fill(client: TestClient, name: str, levels: dict[str, tuple[int, str | None]]) -> None:
    """Grey images of one level each: id to level and label."""
    for item_id, (level, label) in levels.items():
        query = {} if label is None else {"label": label}
        answer = client.put(f"/collections/{name}/items/{item_id}", content=quadrants(*[level] * 4), params=query)
        assert answer.status_code == 201, answer.text


def test_what_is_put_is_found_with_its_distance_label_and_metadata(client: TestClient) -> None:
    put = client.put(
        "/collections/parts/items/line-1/a.png?label=bolt",
        content=quadrants(255, 0, 0, 0),
        headers={b"X-Metadata": '{"lot": 12, "tags": ["ü"]}'.encode()},
    )
    fill(client, "parts", {"b": (255, "nut"), "c": (0, None)})

    found = client.post("/collections/parts/search?k=2", content=quadrants(0, 0, 0, 0))

    expected = {
        "collection": "parts",
        "id": "line-1/a.png",
        "model": "toy",
        "version": 1,
        "label": "bolt",
        "metadata": {"lot": 12, "tags": ["ü"]},
    }
    assert (put.status_code, put.json(), put.headers["x-model"]) == (201, expected, "toy/1")
    assert found.json() == {
        "collection": "parts",
        "model": "toy",
        "version": 1,
        "neighbours": [
            {"id": "c", "distance": 0.0, "label": None, "metadata": None},
            {"id": "line-1/a.png", "distance": 1.0, "label": "bolt", "metadata": expected["metadata"]},
        ],
    }
    assert found.headers["x-model"] == "toy/1"


def test_an_item_that_is_put_again_is_replaced(client: TestClient) -> None:
    fill(client, "again", {"a": (0, "old")})

    answer = client.put("/collections/again/items/a", content=quadrants(255, 255, 255, 255))

    item = client.get("/collections/again/items/a").json()
    assert answer.status_code == 200
    assert (item["latent"], item["label"], item["metadata"]) == ([1, 1, 1, 1], None, None)
    assert client.get("/collections/again").json()["items"] == 1
    (found,) = client.post("/collections/again/search", content=quadrants(255, 255, 255, 255)).json()["neighbours"]
    assert (found["id"], found["distance"]) == ("a", 0)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"latent": [1, 0, 0, 0]}', "application/json"),
        (b'{"latents": [[1, 0, 0, 0]], "model": "toy", "version": 1}', "application/json"),
        (to_npy(np.array([1, 0, 0, 0], np.float32)), "application/x-npy"),
        (to_npy(np.kron([[1, 0], [0, 0]], np.ones((2, 2))).astype(np.float32)), "application/x-npy"),
        (quadrants(255, 0, 0, 0), "image/png"),
    ],
)
def test_images_and_latents_will_do(client: TestClient, content: bytes, kind: str) -> None:
    headers = {"Content-Type": kind}

    client.put("/collections/forms/items/a", content=content, headers=headers).raise_for_status()

    assert client.get("/collections/forms/items/a").json()["latent"] == [1, 0, 0, 0]
    answer = client.post("/collections/forms/search", content=content, headers=headers).json()
    (part,) = answer.get("results", [answer])
    assert [n["distance"] for n in part["neighbours"]] == [0]


def test_a_latent_of_encode_can_be_put_and_one_of_an_item_decoded(client: TestClient) -> None:
    latent = client.post("/encode", content=quadrants(10, 20, 30, 40)).content

    client.put(
        "/collections/circle/items/a", content=latent, headers={"Content-Type": "application/json"}
    ).raise_for_status()
    item = client.get("/collections/circle/items/a").json()
    decoded = client.post("/decode", json={name: item[name] for name in ("latent", "model", "version")})

    assert decoded.content == client.post("/decode", content=latent).content


def test_several_files_have_an_answer_or_a_problem_each(client: TestClient) -> None:
    fill(client, "several", {"dark": (0, "dark"), "light": (255, "light")})
    bad_latent = to_npy(np.zeros(5, np.float32))
    files = [("file", f) for f in (quadrants(0, 0, 0, 0), b"rubbish", quadrants(255, 255, 255, 255), bad_latent)]

    found = client.post("/collections/several/search?k=1", files=files).json()
    classified = client.post("/collections/several/classify", files=files).json()

    assert [f.get("code") or f["neighbours"][0]["id"] for f in found] == [
        *("dark", "unsupported-media-type", "light", "invalid-latent")
    ]
    assert [f.get("code") or f["label"] for f in classified] == [
        *("dark", "unsupported-media-type", "light", "invalid-latent")
    ]


def test_each_image_of_an_array_has_its_own_result(client: TestClient) -> None:
    fill(client, "array", {"dark": (0, "dark"), "light": (255, "light")})
    x = np.stack([np.zeros((1, 4, 4), np.float32), np.ones((1, 4, 4), np.float32)])

    found = client.post("/collections/array/search?k=1", content=to_npy(x)).json()["results"]
    classified = client.post("/collections/array/classify", content=to_npy(x)).json()["results"]

    assert [part["neighbours"][0]["id"] for part in found] == ["dark", "light"]
    assert [part["label"] for part in classified] == ["dark", "light"]


def test_near_neighbours_weigh_more(client: TestClient) -> None:
    # Distances from level 0 in all four quadrants: 2 * level / 255.
    fill(
        client,
        "votes",
        {"a": (51, "near"), "b": (102, "far"), "c": (204, "far"), "d": (255, "very far"), "e": (1, None)},
    )

    answer = client.post("/collections/votes/classify?k=3", content=quadrants(0, 0, 0, 0)).json()

    weights = {"near": 1 / 0.4, "far": 1 / 0.8 + 1 / 1.6}
    total = sum(weights.values())
    assert (answer["label"], [entry["label"] for entry in answer["labels"]]) == ("near", ["near", "far"])
    for entry in answer["labels"]:
        # Distances are float32.
        assert math.isclose(entry["confidence"], weights[entry["label"]] / total, rel_tol=1e-5)
    assert answer["confidence"] == answer["labels"][0]["confidence"]
    assert [n["id"] for n in answer["neighbours"]] == ["a", "b", "c"]  # e has no label


def test_an_item_that_is_the_image_itself_decides_alone(client: TestClient) -> None:
    fill(client, "same", {"a": (0, "same"), "b": (1, "other"), "c": (2, "other")})

    answer = client.post("/collections/same/classify", content=quadrants(0, 0, 0, 0)).json()

    assert answer["labels"] == [{"label": "same", "confidence": 1.0}]


def test_without_labels_nothing_is_classified(client: TestClient) -> None:
    fill(client, "mute", {"a": (0, None)})

    answer = client.post("/collections/mute/classify", content=quadrants(0, 0, 0, 0))

    assert (answer.status_code, answer.json()["code"]) == (409, "no-labels")


def test_what_is_deleted_is_gone(client: TestClient) -> None:
    fill(client, "gone", {"a": (0, "x"), "b": (9, "x")})

    assert client.delete("/collections/gone/items/a").status_code == 204

    assert client.get("/collections/gone/items/a").json()["code"] == "item-not-found"
    assert client.delete("/collections/gone/items/a").status_code == 404
    found = client.post("/collections/gone/search", content=quadrants(0, 0, 0, 0)).json()["neighbours"]
    assert [n["id"] for n in found] == ["b"]
    assert client.delete("/collections/gone").status_code == 204
    for answer in (
        client.get("/collections/gone"),
        client.delete("/collections/gone"),
        client.get("/collections/gone/items"),
        client.get("/collections/gone/items/b"),
        client.delete("/collections/gone/items/b"),
        client.post("/collections/gone/search", content=quadrants(0, 0, 0, 0)),
        client.post("/collections/gone/classify", content=quadrants(0, 0, 0, 0)),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "collection-not-found")


def test_items_are_listed_page_by_page(client: TestClient) -> None:
    fill(client, "pages", {f"i{i}": (i, "x") for i in range(5)})
    ids: list[str] = []
    after: str | None = ""

    while after is not None:
        page = client.get("/collections/pages/items", params={"limit": 2, "after": after}).json()
        ids += [item["id"] for item in page["items"]]
        after = page["after"]

    assert ids == ["i0", "i1", "i2", "i3", "i4"]
    assert (
        client.get("/collections/pages").json().items() >= {"model": "toy", "version": 1, "dim": 4, "items": 5}.items()
    )
    assert "pages" in [c["collection"] for c in client.get("/collections").json()]


# --- Versions ---


def test_a_collection_goes_on_with_its_model_version_when_a_newer_one_is_live(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir)
    client = make_client(watch_interval_s=0.05)
    fill(client, "parts", {"a": (100, "x")})
    publish_toy(models_dir, version=2)
    client.post("/v2/repository/models/toy.encode/load").raise_for_status()
    assert client.post("/encode", content=quadrants(0, 0, 0, 0)).json()["version"] == 2

    answer = client.post("/collections/parts/search", content=quadrants(100, 100, 100, 100))

    assert (answer.headers["x-model"], answer.json()["version"]) == ("toy/1", 1)
    other = client.post("/collections/parts/search?version=2", content=quadrants(0, 0, 0, 0))
    assert (other.status_code, other.json()["code"]) == (409, "model-conflict")
    assert "python -m service rebuild FOLDER --collection parts --model toy" in other.json()["detail"]
    put = client.put("/collections/parts/items/b?model=nobody", content=quadrants(0, 0, 0, 0))
    assert put.status_code == 409
    stranger = client.post("/collections/parts/search", json={"latent": [0] * 4, "model": "toy", "version": 2})
    assert (stranger.status_code, stranger.json()["code"]) == (422, "invalid-latent")


def test_a_collection_whose_model_is_gone_takes_latents_only(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    fill(make_client(), "parts", {"a": (0, "x")})
    (models_dir / "toy").rename(models_dir.parent / "away")
    publish_toy(models_dir, name="other")
    client = make_client()

    answer = client.post("/collections/parts/search", content=quadrants(0, 0, 0, 0))

    assert (answer.status_code, answer.json()["code"]) == (409, "model-conflict")
    assert "no model 'toy'" in answer.json()["detail"]
    assert client.post("/collections/parts/search", json={"latent": [0] * 4}).status_code == 200


def test_a_version_that_was_replaced_in_place_is_another(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    fill(make_client(), "parts", {"a": (0, "x")})
    (models_dir / "toy").rename(models_dir.parent / "away")
    publish_toy(models_dir, side=8)  # the graph pools larger quadrants
    client = make_client()

    answer = client.post("/collections/parts/search", content=quadrants(0, 0, 0, 0))

    assert (answer.status_code, answer.json()["code"]) == (409, "model-conflict")


# --- What is refused ---

DEEP = json.dumps({"a": [[[[[[[[1]]]]]]]]})


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/collections/Parts/items/a", {}, "invalid-parameter"),
        (f"/collections/{'p' * 64}/items/a", {}, "invalid-parameter"),
        ("/collections/p/items/.hidden", {}, "invalid-parameter"),
        ("/collections/p/items/a%2F..%2Fb", {}, "invalid-parameter"),
        ("/collections/p/items/a%00", {}, "invalid-parameter"),
        (f"/collections/p/items/{'i' * 256}", {}, "invalid-parameter"),
        ("/collections/p/items/a?label=", {}, "invalid-parameter"),
        ("/collections/p/items/a?label=%0A", {}, "invalid-parameter"),
        (f"/collections/p/items/a?label={'l' * 101}", {}, "invalid-parameter"),
        ("/collections/p/items/a?colour=red", {}, "invalid-parameter"),
        ("/collections/p/items/a", {"X-Metadata": "lot 12"}, "invalid-metadata"),
        ("/collections/p/items/a", {"X-Metadata": "[12]"}, "invalid-metadata"),
        ("/collections/p/items/a", {"X-Metadata": '{"a": NaN}'}, "invalid-metadata"),
        ("/collections/p/items/a", {"X-Metadata": DEEP}, "invalid-metadata"),
        ("/collections/p/items/a", {"X-Metadata": json.dumps({"a": "b" * 8192})}, "invalid-metadata"),
    ],
)
def test_a_wrong_name_label_or_metadata_is_named(
    client: TestClient, path: str, headers: dict[str, str], code: str
) -> None:
    answer = client.put(path, content=quadrants(0, 0, 0, 0), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_metadata_is_utf_8() -> None:
    with pytest.raises(InvalidMetadata, match="is not JSON"):
        read_metadata('{"a": "\xff"}')  # headers are decoded as Latin-1


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'{"latent": [1, 2, 3]}', 422, "invalid-latent"),
        (b'{"latent": [1, 2, 3, 1e39]}', 422, "invalid-latent"),
        (b'{"latent": [1, 2, 3, "4"]}', 422, "invalid-latent"),
        (b'{"latents": [[1, 2, 3, 4], [1, 2, 3, 4]]}', 422, "invalid-array"),
        (b'{"latent": [1, 2, 3, NaN]}', 400, "malformed-body"),
        (b"", 400, "malformed-body"),
    ],
)
def test_a_wrong_latent_is_refused(client: TestClient, content: bytes, status: int, code: str) -> None:
    answer = client.put("/collections/latents/items/a", content=content, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("z", [np.full(4, np.nan, np.float32), np.full(4, np.inf, np.float32), np.zeros(4)])
def test_an_array_that_is_no_latent_is_refused(client: TestClient, z: Array) -> None:
    answer = client.put("/collections/latents/items/a", content=to_npy(z))

    assert answer.status_code == 422


def test_an_item_is_one_image(client: TestClient) -> None:
    two = [("file", quadrants(0, 0, 0, 0))] * 2

    assert client.put("/collections/one/items/a", files=two).json()["code"] == "malformed-body"
    assert client.put("/collections/one/items/a", content=to_npy(np.zeros((2, 1, 4, 4), np.uint8))).status_code == 422


@pytest.mark.parametrize("k", ["0", "-1", "1001", "many"])
def test_k_has_bounds(client: TestClient, k: str) -> None:
    assert client.post(f"/collections/parts/search?k={k}", content=b"x").json()["code"] == "invalid-parameter"
    assert client.post(f"/collections/parts/classify?k={k}", content=b"x").json()["code"] == "invalid-parameter"


def test_there_are_no_more_items_and_collections_than_the_settings_allow(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir)
    client = make_client(max_items=2, max_collections=1)
    fill(client, "a", {"1": (0, None), "2": (0, None)})

    item = client.put("/collections/a/items/3", content=quadrants(0, 0, 0, 0))
    collection = client.put("/collections/b/items/1", content=quadrants(0, 0, 0, 0))

    assert (item.status_code, item.json()["code"]) == (409, "collection-full")
    assert (collection.status_code, collection.json()["code"]) == (409, "collection-full")
    assert client.put("/collections/a/items/2", content=quadrants(9, 9, 9, 9)).status_code == 200
    assert client.get("/collections/a").json()["items"] == 2


def test_a_request_needs_a_key_where_there_are_keys(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(api_keys=("k" * 16,))

    for method, path in (("PUT", "/collections/a/items/1"), ("GET", "/collections"), ("DELETE", "/collections/a")):
        assert client.request(method, path, content=quadrants(0, 0, 0, 0)).status_code == 401
    put = client.put("/collections/a/items/1", content=quadrants(0, 0, 0, 0), headers={"X-API-Key": "k" * 16})
    assert put.status_code == 201


def test_a_page_of_a_named_site_may_put_and_delete(models_dir: Path, make_client: MakeClient) -> None:
    client = make_client(cors_origins=("https://lab.example",))

    answer = client.options(
        "/collections/a/items/1",
        headers={
            "Origin": "https://lab.example",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "X-Metadata",
        },
    )

    assert answer.status_code == 200
    assert {"PUT", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))


# --- A database that is not as it should be ---


def test_a_database_that_cannot_be_opened_is_a_503_and_everything_else_goes_on(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir)
    file = models_dir.parent / "items.db"
    file.write_bytes(b"not a database, and longer than its header of 100 bytes: " + bytes(100))
    client = make_client(collections_url=f"sqlite:///{file}")

    for _ in range(2):
        answer = client.put("/collections/a/items/1", content=quadrants(0, 0, 0, 0))
        assert (answer.status_code, answer.json()["code"]) == (503, "store-unavailable")
        assert str(file) in answer.json()["detail"]
    assert client.get("/collections").status_code == 503
    assert client.post("/encode", content=quadrants(0, 0, 0, 0)).status_code == 200
    file.unlink()
    assert client.put("/collections/a/items/1", content=quadrants(0, 0, 0, 0)).status_code == 201


def test_a_place_that_cannot_be_written_is_a_503(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    (models_dir.parent / "file").write_bytes(b"")
    client = make_client(collections_url=f"sqlite:///{models_dir.parent / 'file' / 'items.db'}")

    assert client.put("/collections/a/items/1", content=quadrants(0, 0, 0, 0)).json()["code"] == "store-unavailable"


def test_a_database_that_another_holds_is_a_503_and_others_are_answered_meanwhile(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir)
    client = make_client()
    fill(client, "a", {"1": (0, "x")})
    holder = apsw.Connection(str(models_dir.parent / "collections" / "items.db"))
    holder.execute("BEGIN IMMEDIATE")
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(client.put("/collections/a/items/2", content=quadrants(0, 0, 0, 0)))
    )

    waiting.start()
    while_it_waits = client.post("/collections/a/search", content=quadrants(0, 0, 0, 0))
    waiting.join()
    holder.execute("ROLLBACK")
    holder.close()

    assert while_it_waits.status_code == 200
    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "store-unavailable")
    assert client.put("/collections/a/items/2", content=quadrants(0, 0, 0, 0)).status_code == 201


def test_a_database_that_was_removed_is_not_written_to_any_more(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()
    fill(client, "a", {"1": (0, "x")})
    for file in (models_dir.parent / "collections").iterdir():
        file.unlink()

    assert client.get("/collections").json() == []
    fill(client, "a", {"2": (0, "x")})
    assert (models_dir.parent / "collections" / "items.db").exists()


def test_a_service_whose_collections_nobody_asks_for_makes_no_database(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir)

    make_client().post("/encode", content=quadrants(0, 0, 0, 0)).raise_for_status()

    assert not (models_dir.parent / "collections").exists()


def test_a_database_is_imported_when_collections_are_first_asked_for() -> None:
    words = "import sys, service.api.app; print(sorted({'apsw', 'sqlite_vec', 'psycopg'} & sys.modules.keys()))"

    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("distances", [[1e-320, 1e-310], [1e308, 1e308], [np.inf, np.inf], [1e-320, np.inf]])
def test_votes_of_extreme_distances_are_numbers(distances: list[float]) -> None:
    neighbours = [Neighbour(str(i), distance, "ab"[i], None) for i, distance in enumerate(distances)]

    votes = vote(neighbours)

    assert votes[0][0] == "a"
    assert sum(confidence for _, confidence in votes) == pytest.approx(1)


def test_latents_whose_distances_would_overflow_are_refused(client: TestClient) -> None:
    far = {"latent": [3e38, -3e38, 3e38, 3e38]}

    put = client.put("/collections/far/items/a?model=toy&label=x", json=far)
    client.put("/collections/far/items/b?model=toy&label=x", json={"latent": [1, 2, 3, 4]})
    answers = [client.post(f"/collections/far/{what}", json=far) for what in ("search", "classify")]

    assert [response.status_code for response in (put, *answers)] == [422] * 3


def test_neighbours_of_many_vectors_are_bounded(client: TestClient) -> None:
    client.put("/collections/many/items/a?model=toy", json={"latent": [1, 2, 3, 4]})
    many = {"latents": [[1, 2, 3, 4]] * 200}

    assert client.post("/collections/many/search?k=1000", json=many).status_code == 413
    assert client.post("/collections/many/search?k=20", json=many).status_code == 200


def test_pages_of_items_are_made_one_at_a_time(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(models_dir)
    client = make_client()
    fill(client, "c", {"a": (10, None)})
    assert isinstance(client.app, App)
    service, read, was_locked = client.app.service, SqliteStore.entries, list[bool]()

    def entries(store: SqliteStore, name: str, *, after: str, limit: int, max_bytes: int) -> list[Entry]:
        was_locked.append(service.list_lock.locked())
        return read(store, name, after=after, limit=limit, max_bytes=max_bytes)

    monkeypatch.setattr(SqliteStore, "entries", entries)
    client.get("/collections/c/items")

    assert was_locked == [True]
    assert not service.list_lock.locked()


def test_a_page_of_items_ends_early_where_their_metadata_is_large(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.routes.collections._PAGE_BYTES", 100)
    publish_toy(models_dir)
    client = make_client()
    for i in range(5):
        headers = {"X-Metadata": json.dumps({"a": "x" * 40})}
        client.put(f"/collections/c/items/{i}?model=toy", json={"latent": [1, 2, 3, 4]}, headers=headers)

    pages, after = [], ""
    while after is not None:
        page = client.get("/collections/c/items", params={"after": after, "limit": 4}).json()
        pages.append([item["id"] for item in page["items"]])
        after = page["after"]

    assert pages == [["0", "1"], ["2", "3"], ["4"]]


def test_a_page_of_items_waits_for_room_in_the_budget(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(request_timeout_s=0.3)
    fill(client, "c", {"a": (10, None), "b": (20, None)})
    assert isinstance(client.app, App)
    budget = client.app.service.budget
    others = [Hold(budget, f"client {i}") for i in range(8)]
    for hold in others:
        hold.reserve(bytes=budget.limit.bytes // 8)

    full = client.get("/collections/c/items?limit=1000")
    small = client.get("/collections/c/items?limit=1")
    for hold in others:
        budget.replace(hold, Load())
    whole = client.get("/collections/c/items?limit=1000")

    assert (full.status_code, full.json()["code"]) == (503, "queue-full")
    assert [item["id"] for item in small.json()["items"]] == ["a"]
    assert [item["id"] for item in whole.json()["items"]] == ["a", "b"]
