"""One contract for every database: SQLite always, PostgreSQL with pgvector where its test package is installed."""

import contextlib
import json
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import numpy as np
import pytest

from service.collections.store import Bounds, Encoder, Item, Neighbour, Store, Vector, open_jobs, open_store
from service.collections.store.feedback import OVERHEAD_BYTES, Files, Picture, Totals, picture_of
from service.collections.store.job import JobBounds
from service.errors import (
    CollectionFull,
    CollectionNotFound,
    FeedbackFull,
    FeedbackNotFound,
    ItemNotFound,
    ModelConflict,
    StoreUnavailable,
)
from service.models.aliases import Alias

ENCODER = Encoder("toy", 1, "0" * 64, 8)
BOUNDS = Bounds(max_collections=10, max_items=1000)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'items.db'}"
    found: str = request.getfixturevalue("postgres_url")
    import psycopg  # noqa: PLC0415

    with psycopg.connect(found, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS hourglass_items, hourglass_collections, hourglass_feedback")
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with contextlib.closing(open_store(url)) as store:
        yield store


def vector(*values: float) -> Vector:
    return np.array([*values, *[0.0] * (8 - len(values))], np.float32)


def item(item_id: str, *values: float, label: str | None = None) -> Item:
    return Item(item_id, vector(*values), label)


def test_what_is_put_comes_back_bit_for_bit(store: Store) -> None:
    z = np.random.default_rng(0).standard_normal(8).astype(np.float32)
    metadata = {"text": "ü \u0000 \U0001f600", "number": 1.5e300, "list": [None, True, {"a": []}]}

    new = store.put("c", ENCODER, [Item("seven/größe 1.png", z, "7", metadata)], BOUNDS)  # type: ignore[arg-type]  # JSON

    found, updated = store.get("c", "seven/größe 1.png")
    assert new == 1
    assert found.vector.tobytes() == z.tobytes()
    assert (found.id, found.label, found.metadata) == ("seven/größe 1.png", "7", metadata)
    assert updated.endswith("+00:00")


def test_search_agrees_with_numpy(store: Store) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((500, 8)).astype(np.float32)
    q = rng.standard_normal(8).astype(np.float32)
    store.put("c", ENCODER, [Item(f"{i:03}", row, "even" if i % 2 == 0 else None) for i, row in enumerate(x)], BOUNDS)

    found = store.search("c", q, k=20)
    even = store.search("c", q, k=20, is_labelled=True)

    distances = np.sqrt(((x.astype(np.float64) - q) ** 2).sum(1))
    order = np.argsort(distances)
    assert [n.id for n in found] == [f"{i:03}" for i in order[:20]]
    assert [n.id for n in even] == [f"{i:03}" for i in order if i % 2 == 0][:20]
    # Sums of eight float32 squares.
    assert np.allclose([n.distance for n in found], distances[order[:20]], rtol=1e-5)


def test_equal_distances_come_in_the_order_of_ids(store: Store) -> None:
    store.put("c", ENCODER, [item("b", 1), item("a", 1), item("c", -1)], BOUNDS)

    assert [n.id for n in store.search("c", vector(), k=3)] == ["a", "b", "c"]


def test_k_may_be_more_than_there_is(store: Store) -> None:
    store.put("c", ENCODER, [item("a", 3)], BOUNDS)

    assert store.search("c", vector(), k=1000) == [Neighbour("a", 3.0, None, None)]


def test_putting_again_replaces_and_counts_once(store: Store) -> None:
    store.put("c", ENCODER, [item("a", 1, label="x"), item("b", 2)], BOUNDS)

    new = store.put("c", ENCODER, [item("a", 5), item("d", 6)], BOUNDS)

    assert new == 1
    assert store.collection("c").items == 3
    assert [(n.id, n.distance, n.label) for n in store.search("c", vector(5), k=1)] == [("a", 0.0, None)]
    assert store.search("c", vector(), k=9, is_labelled=True) == []


def test_a_page_ends_where_its_metadata_exceeds_the_limit(store: Store) -> None:
    sizes = {"a": 10, "b": 20, "c": 30, "d": 40}  # of the text; each has eight characters more as JSON
    for item_id, size in sizes.items():
        store.put("c", ENCODER, [Item(item_id, vector(1), None, {"a": "x" * size})], BOUNDS)
    store.put("c", ENCODER, [item("e", 1)], BOUNDS)

    def ids(after: str, max_bytes: int) -> list[str]:
        return [entry.id for entry in store.entries("c", after=after, limit=4, max_bytes=max_bytes)]

    assert ids("", 1) == ["a"]
    assert ids("", 19) == ["a", "b"]
    assert ids("a", 1000) == ["b", "c", "d", "e"]
    assert ids("", 1000) == ["a", "b", "c", "d"]


def test_one_id_twice_in_one_put_is_one_item(store: Store) -> None:
    assert store.put("c", ENCODER, [item("a", 1), item("a", 2)], BOUNDS) == 1
    assert store.collection("c").items == 1


def test_items_are_removed_and_listed(store: Store) -> None:
    store.put("c", ENCODER, [item(i, 1) for i in ("b", "a", "Z", "é")], BOUNDS)

    store.remove("c", "b")

    assert [entry.id for entry in store.entries("c", after="", limit=10)] == ["Z", "a", "é"]
    assert [entry.id for entry in store.entries("c", after="Z", limit=1)] == ["a"]
    assert store.known("c", ["a", "b", "nothing"]) == {"a"}
    assert store.known("nothing", ["a"]) == set()
    with pytest.raises(ItemNotFound, match="collection 'c' has no item 'b'"):
        store.remove("c", "b")
    with pytest.raises(ItemNotFound):
        store.get("c", "b")
    assert store.collection("c").items == 3


def test_collections_do_not_see_one_another(store: Store) -> None:
    other = Encoder("toy", 2, "1" * 64, 3)
    store.put("a", ENCODER, [item("x", 1)], BOUNDS)
    store.put("b", other, [Item("x", np.ones(3, np.float32))], BOUNDS)

    assert [c.name for c in store.collections()] == ["a", "b"]
    assert [c.name for c in store.collections(limit=1)] == ["a"]
    assert [c.name for c in store.collections(after="a")] == ["b"]
    assert store.collection("b").encoder == other
    store.drop("a")
    with pytest.raises(CollectionNotFound, match="no collection 'a'; existing ones: b"):
        store.search("a", vector(), k=1)
    assert [n.id for n in store.search("b", np.zeros(3, np.float32), k=5)] == ["x"]
    assert store.put("a", ENCODER, [item("y", 2)], BOUNDS) == 1
    assert [n.id for n in store.search("a", vector(), k=5)] == ["y"]


@pytest.mark.parametrize("other", [Encoder("toy", 2, "0" * 64, 8), Encoder("toy", 1, "1" * 64, 8)])
def test_vectors_of_another_encoder_are_refused(store: Store, other: Encoder) -> None:
    store.put("c", ENCODER, [item("a", 1)], BOUNDS)

    with pytest.raises(ModelConflict, match="python -m service rebuild"):
        store.put("c", other, [item("b", 1)], BOUNDS)

    assert store.collection("c").items == 1


def test_nothing_of_what_does_not_fit_is_put(store: Store) -> None:
    bounds = Bounds(max_collections=1, max_items=2)
    store.put("c", ENCODER, [item("a", 1)], bounds)

    with pytest.raises(CollectionFull, match="max_items"):
        store.put("c", ENCODER, [item("b", 1), item("d", 1)], bounds)
    with pytest.raises(CollectionFull, match="max_collections"):
        store.put("e", ENCODER, [item("a", 1)], bounds)

    assert (store.collection("c").items, len(store.collections())) == (1, 1)
    assert store.known("c", ["b", "d"]) == set()


def test_a_collection_replaces_another_unless_that_has_changed(store: Store) -> None:
    store.put("c", ENCODER, [item("a", 1)], BOUNDS)
    newer = Encoder("toy", 2, "2" * 64, 8)
    store.put("new", newer, [item("a", 9)], BOUNDS)
    changes = store.collection("c").changes
    store.put("c", ENCODER, [item("b", 1)], BOUNDS)

    assert not store.replace("c", "new", changes=changes)
    assert store.replace("c", "new", changes=store.collection("c").changes)

    assert [(c.name, c.encoder, c.items) for c in store.collections()] == [("c", newer, 1)]
    assert [n.distance for n in store.search("c", vector(9), k=5)] == [0]


def test_what_one_connection_has_put_another_finds_at_once(url: str, store: Store) -> None:
    with contextlib.closing(open_store(url)) as other:
        for i in range(20):
            store.put("c", ENCODER, [item(str(i), i)], BOUNDS)
            assert other.search("c", vector(i), k=1)[0].id == str(i)
            other.remove("c", str(i))
            assert store.search("c", vector(i), k=1) == []


@pytest.mark.parametrize("hostile", ["'; DROP TABLE items; --", '"', "%s", "?", "\\", "a' OR '1'='1"])
def test_hostile_text_is_only_text(store: Store, hostile: str) -> None:
    store.put("c", ENCODER, [Item(hostile, vector(1), hostile, {hostile: hostile})], BOUNDS)

    assert store.search("c", vector(), k=1) == [Neighbour(hostile, 1.0, hostile, json.dumps({hostile: hostile}))]
    assert store.known("c", [hostile]) == {hostile}
    store.remove("c", hostile)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    pytest.importorskip("psycopg")

    with pytest.raises(StoreUnavailable, match="does not answer"):
        open_store("postgresql://nobody:secret@127.0.0.1:1/none")


def test_connections_that_the_server_has_ended_are_opened_again(postgres_url: str) -> None:
    import psycopg  # noqa: PLC0415

    with contextlib.closing(open_store(postgres_url)) as store:
        before = store.collections()
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

        assert store.collections() == before


def test_a_database_without_room_says_so_and_lives_on(tmp_path: Path) -> None:
    with contextlib.closing(open_store(f"sqlite:///{tmp_path / 'items.db'}")) as store:
        store.put("c", ENCODER, [item("a", 1)], BOUNDS)
        with resource_limit(64 * 1024), pytest.raises(StoreUnavailable, match="check free space"):
            store.put(
                "c", ENCODER, [Item(str(i), vector(i), metadata={"text": "x" * 8000}) for i in range(100)], BOUNDS
            )

        assert [n.id for n in store.search("c", vector(), k=5)] == ["a"]
        assert store.put("c", ENCODER, [item("b", 1)], BOUNDS) == 1


@contextlib.contextmanager
def resource_limit(more_bytes: int) -> Iterator[None]:
    """No file may grow past this size: the kernel's answer to a write is then an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_all_collections_together_have_a_limit_in_bytes(store: Store) -> None:
    small, large = Bounds(10, 1000, max_bytes=1024), Bounds(10, 1000, max_bytes=2**30)
    store.put("parts", ENCODER, [Item("a", np.zeros(8, np.float32))], large)

    with pytest.raises(CollectionFull, match="max_collections_bytes"):
        store.put("parts", ENCODER, [Item("b", np.zeros(8, np.float32))], small)

    assert store.collection("parts").items == 1


def test_a_file_that_is_cut_off_while_it_is_open_ends_no_process(tmp_path: Path) -> None:
    path = tmp_path / "items.db"
    with contextlib.closing(open_store(f"sqlite:///{path}")) as store:
        items = [Item(str(i), np.full(8, i, np.float32)) for i in range(500)]
        store.put("parts", ENCODER, items, BOUNDS)
    with contextlib.closing(open_store(f"sqlite:///{path}")) as store:
        store.search("parts", np.zeros(8, np.float32), k=3)
        with path.open("r+b") as file:
            file.truncate(4096)

        with pytest.raises(StoreUnavailable):
            store.search("parts", np.zeros(8, np.float32), k=500)


def test_behind_a_locked_file_readers_wait_less_than_a_writer_would(tmp_path: Path) -> None:
    path = tmp_path / "items.db"
    with contextlib.closing(open_store(f"sqlite:///{path}")) as store:
        store.put("parts", ENCODER, [Item("a", np.zeros(8, np.float32))], BOUNDS)
    with (
        contextlib.closing(apsw.Connection(str(path))) as holder,
        contextlib.closing(apsw.Connection(str(path))) as other,
    ):
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("UPDATE collections SET changes = changes + 1")
        other.set_busy_timeout(5000)  # as long as writers wait
        seconds = []
        for ask in (lambda: open_store(f"sqlite:///{path}"), lambda: other.execute("SELECT * FROM collections")):
            started = time.monotonic()
            with pytest.raises((StoreUnavailable, apsw.BusyError)):
                ask()
            seconds.append(time.monotonic() - started)
        holder.execute("ROLLBACK")

    assert seconds[0] < seconds[1]


def test_reads_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'items.db'}"
    with contextlib.closing(open_store(url)) as store, contextlib.closing(open_jobs(url)) as jobs:
        store.put("parts", ENCODER, [Item("a", np.zeros(8, np.float32))], BOUNDS)
        picture = picture_of("a" * 64, "fine", 3, None, has_mask=False)
        store.feedback.put("nuts", picture, Files(b"x", None), max_bytes=10**6)
        store.aliases.put(Alias("nuts", "line", 1))
        store.trainings.begin("t", "nuts", "fit")
        job = jobs.submit("request", b"x", bounds=JobBounds(max_jobs=10, max_bytes=10**6, keep_s=60))
        with (
            contextlib.closing(apsw.Connection(str(tmp_path / "items.db"))) as writer,
            contextlib.closing(apsw.Connection(str(tmp_path / "items-jobs.db"))) as writer_of_jobs,
        ):
            for connection in (writer, writer_of_jobs):  # until it ends, another write would be a 503
                connection.execute("BEGIN IMMEDIATE")

            assert [found.name for found in store.collections()] == ["parts"]
            assert store.feedback.pictures("nuts") == [picture]
            assert store.feedback.files("nuts", picture.id) == Files(b"x", None)
            assert [found.name for found in store.aliases.all()] == ["line"]
            assert [found.id for found in store.trainings.of_model("nuts")] == ["t"]
            assert store.trainings.workers(within_s=60) == []
            assert jobs.job(job.id).state == "queued"
            assert jobs.waiting("request") == (1, 0)


def test_feedback_comes_back_byte_for_byte_and_the_newest_opinion_counts(store: Store) -> None:
    image, mask = bytes(range(256)), b"\x00mask\xff"
    first = picture_of("a" * 64, "defect", 3, "Ann ü", has_mask=True)
    second = picture_of("b" * 64, "fine", 3, None, has_mask=False)

    store.feedback.put("nuts", first, Files(image, mask), max_bytes=10**6)
    store.feedback.put("nuts", second, Files(image, None), max_bytes=10**6)
    store.feedback.put("bolts", first, Files(b"x", None), max_bytes=10**6)

    assert store.feedback.largest("nuts") == len(image) + len(mask) + OVERHEAD_BYTES
    assert store.feedback.largest("screws") == 0
    pictures = store.feedback.pictures("nuts")
    assert {picture.id: picture for picture in pictures} == {first.id: first, second.id: second}
    assert store.feedback.totals("nuts") == Totals(1, 1, 2 * 256 + len(mask) + 1 + 3 * OVERHEAD_BYTES)
    assert store.feedback.files("nuts", first.id) == Files(image, mask)
    assert store.feedback.files("nuts", second.id) == Files(image, None)
    changed = picture_of(first.id, "fine", 4, None, has_mask=False)
    store.feedback.put("nuts", changed, Files(image, None), max_bytes=10**6)
    assert changed in store.feedback.pictures("nuts")
    assert len(store.feedback.pictures("nuts")) == 2
    store.feedback.remove("nuts", first.id)
    with pytest.raises(FeedbackNotFound):
        store.feedback.remove("nuts", first.id)
    store.feedback.clear("nuts")
    assert store.feedback.pictures("nuts") == []
    assert store.feedback.files("nuts", second.id) is None
    assert len(store.feedback.pictures("bolts")) == 1


def test_pages_of_feedback_have_every_picture_once_the_newest_first(store: Store) -> None:
    times = ["2026-01-02T00:00:00+00:00"] * 2 + ["2026-01-01T00:00:00+00:00"] * 2 + ["2026-01-03T00:00:00+00:00"]
    kept = [
        Picture(letter * 64, "fine", 1, None, time, has_mask=False) for letter, time in zip("adbce", times, strict=True)
    ]
    for picture in kept:
        store.feedback.put("nuts", picture, Files(b"x", None), max_bytes=10**6)

    pages, after = [], ""
    while page := store.feedback.pictures("nuts", after=after, limit=2):
        pages.append("".join(picture.id[0] for picture in page))
        after = page[-1].place

    assert pages == ["ea", "db", "c"]


def test_feedback_never_takes_more_bytes_than_it_may_and_a_refusal_changes_nothing(store: Store) -> None:
    first, second = (picture_of(letter * 64, "fine", 1, None, has_mask=False) for letter in "ab")
    most = 1000 + OVERHEAD_BYTES
    store.feedback.put("nuts", first, Files(bytes(1000), None), max_bytes=most)

    for picture, size in ((second, 1), (first, 1001)):
        with pytest.raises(FeedbackFull, match=str(most)):
            store.feedback.put("nuts", picture, Files(bytes(size), None), max_bytes=most)

    assert store.feedback.pictures("nuts") == [first]
    assert store.feedback.totals("nuts").bytes == most
    store.feedback.put("nuts", first, Files(bytes(999), None), max_bytes=most)  # in the place of itself


def test_many_at_once_keep_to_the_bytes_of_the_feedback(url: str) -> None:
    with contextlib.closing(open_store(url)) as store:
        store.feedback.pictures("nuts")  # so that there is a table

        def put(i: int) -> bool:
            picture = picture_of(f"{i:064x}", "fine", 1, None, has_mask=False)
            try:
                store.feedback.put("nuts", picture, Files(b"x", None), max_bytes=5 * (OVERHEAD_BYTES + 1))
            except FeedbackFull:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            kept = list(threads.map(put, range(24)))

        assert sum(kept) == len(store.feedback.pictures("nuts")) == 5
