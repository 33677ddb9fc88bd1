"""`hourglass watch BUCKET`: objects of any file system of fsspec, each judged once."""

import asyncio
import importlib.util
import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hourglass_client.__main__ import main
from hourglass_client.watch.part import Part, Stamp, Word
from hourglass_client.watch.source import Arrival
from tests.clients.test_watch import BRIGHT, DARK, Watching, has_rows, put, rows, verdicts, watching
from tests.service.slowmodel import service_process, until
from tests.service.toymodels import publish_toy

pytest.importorskip("fsspec")
import fsspec

from hourglass_client.watch.bucket import Bucket, _stamp


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    publish_toy(models)
    with service_process(models) as process:
        yield process.url


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """An empty bucket in memory, `memory://parts`."""
    fs = fsspec.filesystem("memory")
    fs.makedirs("/parts", exist_ok=True)
    yield fs
    for path in fs.find("/"):
        fs.rm_file(path)


def bucket(*, known: Sequence[Arrival] = (), settles: bool = True, say: Callable[[str], None] = print) -> Bucket:
    return Bucket(
        "memory://parts",
        lambda name, stamp: (name, stamp) in known,
        every_s=0.001,
        ignored=["memory://parts/judged"],
        settles=settles,
        say=say,
    )


def arrivals_of(source: Bucket, count: int) -> list[Arrival]:
    """The next arrivals, none of them done."""

    async def take() -> list[Arrival]:
        arrivals = source.arrivals()
        found = [await anext(arrivals) for _ in range(count)]
        await arrivals.aclose()
        return found

    return asyncio.run(take())


def listings(source: Bucket, monkeypatch: pytest.MonkeyPatch, change: Callable[[int], None]) -> None:
    """Calls `change` with 1, 2, ... before each listing after the first."""
    counter, list_it = itertools.count(1), source._list

    def changed() -> dict[str, Stamp]:
        change(next(counter))
        return list_it()

    monkeypatch.setattr(source, "_list", changed)


def part_of(arrival: Arrival, part_id: int = 1, word: Word = "normal") -> Part:
    return Part(part_id, arrival.name, arrival.stamp, "2026-01-01T00:00:00+00:00", word, None, None)


def test_what_is_there_and_what_arrives_is_judged_once_over_restarts(url: str, tmp_path: Path) -> None:
    bucket, table = tmp_path / "parts", tmp_path / "verdicts.csv"
    words = ("--model", "toy", "--every-s", "0.1", "--csv", table, "--history", tmp_path / "history.db")
    put(bucket, "before.png", DARK)
    put(bucket, ".hidden.png", BRIGHT)
    put(bucket, "notes.txt", b"no image")

    watch = Watching(url, f"file://{bucket}", *words)
    until(lambda: has_rows(table, 1))
    watch.end(signal.SIGKILL)
    put(bucket, "deep/er/bad.png", BRIGHT)
    put(bucket, "broken.png", b"no image")
    with watching(url, f"file://{bucket}", *words, "--patience-s", "0"):
        until(lambda: has_rows(table, 3))

    assert verdicts(table) == {"before.png": "normal", "deep/er/bad.png": "anomalous", "broken.png": "failed"}


def test_objects_are_moved_by_their_verdict_within_the_bucket(url: str, tmp_path: Path) -> None:
    bucket, table = tmp_path / "parts", tmp_path / "verdicts.csv"
    put(bucket, "a/good.png", DARK)
    put(bucket, "bad.png", BRIGHT)
    words = ("--every-s", "0.1", "--settle-s", "0", "--csv", table, "--history", tmp_path / "history.db")

    with watching(url, f"file://{bucket}", *words, "--move", f"file://{bucket}/judged") as watch:
        until(lambda: len(list((bucket / "judged").rglob("*.png"))) == 2)

    moved = {path.relative_to(bucket).as_posix() for path in bucket.rglob("*.png")}
    assert moved == {"judged/normal/a/good.png", "judged/anomalous/bad.png"}
    assert len(rows(table)) == 2
    assert "2 judged, 1 anomalous, 0 failed" in watch.err[-1]


def test_an_object_is_complete_when_two_listings_agree(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/parts/slow.png", DARK[:10])
    source = bucket()

    def write(listing: int) -> None:
        if listing <= 3:
            memory.pipe_file("/parts/slow.png", DARK[: 10 + 10 * listing])

    listings(source, monkeypatch, write)
    (arrival,) = arrivals_of(source, 1)

    assert arrival.stamp.size == 40
    assert asyncio.run(source.read(arrival)) == DARK[:40]


def test_objects_are_taken_at_once_where_they_are_complete_when_listed(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/parts/b.png", DARK)
    memory.pipe_file("/parts/a.png", DARK)
    source = bucket(settles=False)

    assert {arrival.name for arrival in arrivals_of(source, 2)} == {"a.png", "b.png"}
    assert source.waiting == 0


def test_what_is_known_or_under_way_is_not_yielded(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/parts/a.png", DARK)
    (known,) = arrivals_of(bucket(), 1)
    memory.pipe_file("/parts/b.png", DARK)
    source = bucket(known=[known])

    (b,) = arrivals_of(source, 1)
    memory.pipe_file("/parts/c.png", DARK)
    (c,) = arrivals_of(source, 1)
    source.again(b.name)

    assert [b.name, c.name] == ["b.png", "c.png"]
    assert arrivals_of(source, 1) == [b]


def test_an_object_that_was_written_anew_is_another_part(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/parts/a.png", DARK)
    (first,) = arrivals_of(source := bucket(), 1)
    memory.pipe_file("/parts/a.png", BRIGHT + b"\0")

    assert asyncio.run(source.read(first)) is None
    assert not source.put(part_of(first), "memory://parts/judged", moves=True)
    source.done(first.name)
    assert arrivals_of(source, 1)[0].stamp != first.stamp


def test_a_listing_that_fails_is_said_once_and_repeated(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    source = bucket(say=said.append)

    def fail(listing: int) -> None:
        if listing == 3:
            memory.pipe_file("/parts/a.png", DARK)
        if listing < 3:
            raise RuntimeError("no credentials")

    listings(source, monkeypatch, fail)

    assert arrivals_of(source, 1)[0].name == "a.png"
    assert said == ["memory://parts cannot be listed: no credentials; waiting"]


@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("target", ["memory://parts/judged", "memory://others", "folder"])
def test_a_part_that_is_put_twice_is_there_once(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, target: str, *, moves: bool
) -> None:
    place = str(tmp_path / target) if target == "folder" else target
    memory.pipe_file("/parts/a.png", DARK)
    (arrival,) = arrivals_of(source := bucket(), 1)

    assert source.put(part_of(arrival), place, moves=moves)
    assert source.put(part_of(arrival), place, moves=moves)  # after a stop

    fs, root = fsspec.core.url_to_fs(place)
    assert [path.removeprefix(root) for path in fs.find(f"{root}/normal")] == ["/normal/a.png"]
    assert memory.exists("/parts/a.png") is not moves


def test_a_name_that_is_taken_gets_the_number_of_the_part(memory: fsspec.AbstractFileSystem) -> None:
    for part_id, content in enumerate((DARK, BRIGHT), 1):
        memory.pipe_file("/parts/a.png", content)
        (arrival,) = arrivals_of(source := bucket(), 1)
        source.put(part_of(arrival, part_id), "memory://parts/judged", moves=True)

    assert memory.find("/parts") == ["/parts/judged/normal/a.2.png", "/parts/judged/normal/a.png"]
    assert memory.cat_file("/parts/judged/normal/a.2.png") == BRIGHT


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"size": 3, "LastModified": "2026-01-31T08:15:02Z", "ETag": '"a"'}, 1769847302 * 10**9),
        ({"size": 3, "updated": "2026-01-31T08:15:02.5+00:00", "etag": '"a"'}, 17698473025 * 10**8),
        ({"size": 3, "mtime": 1.5, "created": 9}, 1500000000),
        ({"size": 3}, 0),
    ],
)
def test_a_stamp_holds_what_a_file_system_says(about: dict[str, Any], expected: int) -> None:
    stamp = _stamp(about)

    assert (stamp.size, stamp.mtime_ns) == (3, expected)
    assert (stamp.inode > 0) is ("ETag" in about or "etag" in about)
    assert stamp.inode < 2**63  # what SQLite can store


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("s3a://parts/line", "beside hourglass-client[bucket]"),
        ("nothing://parts", "Protocol not known"),
    ],
)
def test_a_bucket_that_cannot_be_watched_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if source.startswith("s3") and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")

    assert main(["watch", source]) == 2

    assert reason in capsys.readouterr().err


def test_a_missing_extra_is_said_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    assert main(["watch", "s3://parts"]) == 2
    assert main(["watch", "rtsp://camera/1"]) == 2

    told = capsys.readouterr().err
    assert "watching a bucket needs fsspec: `pip install 'hourglass-client[bucket]'`" in told
    assert "watching a video needs watchfiles and av: `pip install 'hourglass-client[watch,video]'`" in told


def test_a_folder_that_does_not_exist_is_said_once_and_waited_for(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.rm("/parts", recursive=True)
    said: list[str] = []
    source = bucket(say=said.append)

    def begin(listing: int) -> None:
        if listing == 3:
            memory.pipe_file("/parts/a.png", DARK)

    listings(source, monkeypatch, begin)

    assert arrivals_of(source, 1)[0].name == "a.png"
    assert said == ["memory://parts is empty or does not exist; waiting"]
