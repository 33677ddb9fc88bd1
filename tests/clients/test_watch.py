"""`hourglass watch`: what arrives in a folder is judged once and told once, whoever is stopped or away meanwhile."""

import asyncio
import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from hourglass_client.__main__ import main
from hourglass_client.aio import AsyncHourglass
from hourglass_client.answers import Verdict
from hourglass_client.watch import loop
from hourglass_client.watch.folder import Folder
from hourglass_client.watch.history import History
from hourglass_client.watch.part import Part, Stamp, stamp_of
from hourglass_client.watch.sinks import CsvFile, Sink, Sorted
from tests.service.files import pixels_of, png
from tests.service.nanmodel import publish_ignoring
from tests.service.slowmodel import Process, service_process, until
from tests.service.toymodels import publish_toy

pytest.importorskip("watchfiles")
CLIENT = Path(__file__).parents[2] / "clients" / "python" / "src"
DARK, BRIGHT = png(np.zeros((4, 4), np.uint8)), png(np.full((4, 4), 250, np.uint8))
Document = dict[str, Any]  # Any: JSON


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory, default_for=["anomaly"])
    publish_ignoring(directory, name="ignoring")
    return directory


@pytest.fixture(scope="module")
def url(models: Path) -> Iterator[str]:
    with service_process(models) as process:
        yield process.url


@pytest.fixture
def line(tmp_path: Path) -> Path:
    (tmp_path / "line").mkdir()
    return tmp_path / "line"


class Watching:
    """A running `hourglass watch` over a source."""

    def __init__(self, url: str, source: Path | str, *words: str | Path) -> None:
        paths = [str(CLIENT), *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-m", "hourglass_client", "--url", url, "watch", str(source), *map(str, words)]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        self.popen = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        self.out: list[str] = []
        self.err: list[str] = []
        assert self.popen.stdout
        assert self.popen.stderr
        self._readers = [
            threading.Thread(target=self._read, args=(self.popen.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.popen.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))
        stream.close()

    def end(self, number: signal.Signals) -> int:
        self.popen.send_signal(number)
        code = self.popen.wait(timeout=60)
        for reader in self._readers:
            reader.join()
        return code


@contextlib.contextmanager
def watching(url: str, source: Path | str, *words: str | Path) -> Iterator[Watching]:
    watch = Watching(url, source, *words)
    try:
        yield watch
        assert watch.end(signal.SIGTERM) == 0, "".join(watch.err)
    finally:
        watch.popen.kill()
        watch.end(signal.SIGKILL)


def put(folder: Path, name: str, content: bytes) -> Path:
    """Writes a file in place, as a camera does."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def has_rows(path: Path, count: int) -> bool:
    return len(rows(path)) >= count


def verdicts(path: Path) -> dict[str, str]:
    found = rows(path)
    assert len({row["file"] for row in found}) == len(found), "a part was told twice"
    assert [int(row["id"]) for row in found] == sorted(int(row["id"]) for row in found)
    return {row["file"]: row["verdict"] for row in found}


def test_what_is_there_and_what_arrives_is_judged_and_told_everywhere(url: str, line: Path, tmp_path: Path) -> None:
    table, maps = tmp_path / "verdicts.csv", tmp_path / "maps"
    put(line, "before.png", DARK)
    put(line, ".hidden.png", BRIGHT)

    with watching(url, line, "--model", "toy", "--lines", "--csv", table, "--heatmaps", maps) as watch:
        until(lambda: len(rows(table)) == 1)
        put(line, "deep/er/bad.png", BRIGHT)
        put(line, "notes.txt", b"no image")
        put(line, "broken.png", b"no image either")
        (tmp_path / "elsewhere").mkdir()
        put(tmp_path / "elsewhere", "moved.png", DARK)
        (tmp_path / "elsewhere").rename(line / "folder")
        until(lambda: len(rows(table)) == 4)
    found = verdicts(table)

    expected = {"before.png": "normal", "deep/er/bad.png": "anomalous", "broken.png": "failed"}
    assert found == expected | {"folder/moved.png": "normal"}
    words = {name: line.split("\t")[0] for line in watch.out for name in [line.split("\t")[1]]}
    assert words == {
        "before.png": "OK",
        "deep/er/bad.png": "NG",
        "broken.png": "ERROR",
        "folder/moved.png": "OK",
    }
    assert [path.relative_to(maps).as_posix() for path in maps.rglob("*.png")] == ["deep/er/bad.png.png"]
    assert pixels_of((maps / "deep/er/bad.png.png").read_bytes()).shape == (4, 4, 3)
    assert "4 judged, 1 anomalous, 1 failed" in watch.err[-1]
    assert "p99" in watch.err[-1]
    with sqlite3.connect(line / ".hourglass-watch.db") as history:
        told = history.execute(
            "SELECT file, verdict, model FROM parts WHERE score IS NOT NULL ORDER BY file"
        ).fetchall()
    history.close()
    assert told == [
        ("before.png", "normal", "toy/1"),
        ("deep/er/bad.png", "anomalous", "toy/1"),
        ("folder/moved.png", "normal", "toy/1"),
    ]


def test_what_a_mask_covers_takes_no_part_in_verdicts_and_heat_maps(url: str, line: Path, tmp_path: Path) -> None:
    half, left, right = (np.zeros((32, 32), np.uint8) for _ in range(3))
    half[:, :16] = left[8, 8] = right[8, 24] = 255
    put(line, "left.png", png(left))
    put(line, "right.png", png(right))
    table, maps, mask = tmp_path / "verdicts.csv", tmp_path / "maps", put(tmp_path, "mask.png", png(half))

    with watching(url, line, "--model", "ignoring", "--ignore", mask, "--csv", table, "--heatmaps", maps):
        until(lambda: len(rows(table)) == 2)

    assert verdicts(table) == {"left.png": "normal", "right.png": "anomalous"}
    assert [path.name for path in maps.iterdir()] == ["right.png.png"]


def test_a_file_that_is_still_being_written_is_waited_for(url: str, line: Path, tmp_path: Path) -> None:
    content = png(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    with watching(url, line, "--csv", tmp_path / "v.csv", "--patience-s", "60") as watch:
        put(line, "first.png", DARK)
        until(lambda: len(rows(tmp_path / "v.csv")) == 1)
        with (line / "slow.png").open("wb") as file:
            for start in range(0, len(content), 1000):  # pauses that are longer than what settles a file
                file.write(content[start : start + 1000])
                file.flush()
                threading.Event().wait(0.3)
        until(lambda: len(rows(tmp_path / "v.csv")) == 2)

    assert verdicts(tmp_path / "v.csv")["slow.png"] == "normal"
    assert "0 failed" in watch.err[-1]


def test_a_name_that_comes_again_with_another_image_is_another_part(url: str, line: Path, tmp_path: Path) -> None:
    with watching(url, line, "--csv", tmp_path / "v.csv"):
        put(line, "part.png", DARK)
        until(lambda: len(rows(tmp_path / "v.csv")) == 1)
        put(line, "part.png", BRIGHT)
        until(lambda: len(rows(tmp_path / "v.csv")) == 2)

    assert [row["verdict"] for row in rows(tmp_path / "v.csv")] == ["normal", "anomalous"]


# --- restarts ---


def test_a_watch_that_is_killed_again_and_again_loses_and_doubles_nothing(url: str, line: Path, tmp_path: Path) -> None:
    table, judged = tmp_path / "verdicts.csv", tmp_path / "judged"
    words = ("--csv", table, "--copy", judged, "--at-once", "2")
    names = [f"{i:02}.png" for i in range(60)]

    def feed() -> None:
        for i, name in enumerate(names):
            put(line, name, BRIGHT if i % 7 == 0 else DARK)
            threading.Event().wait(0.02)

    feeder = threading.Thread(target=feed)
    feeder.start()
    for wanted in (5, 15, 30):
        watch = Watching(url, line, *words)
        until(partial(has_rows, table, wanted))
        watch.end(signal.SIGKILL)
    with table.open("a") as file:
        file.write("99,torn")  # as a power cut may leave it
    feeder.join()
    with watching(url, line, *words):
        until(lambda: len(rows(table)) == len(names))

    found = verdicts(table)
    assert found == {name: "anomalous" if i % 7 == 0 else "normal" for i, name in enumerate(names)}
    copied = {path.relative_to(judged).as_posix() for path in judged.rglob("*") if path.is_file()}
    assert copied == {f"{word}/{name}" for name, word in found.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_service_that_is_away_is_waited_for(models: Path, line: Path, tmp_path: Path) -> None:
    table, port = tmp_path / "verdicts.csv", str(free_port())

    @contextlib.contextmanager
    def service() -> Iterator[Process]:
        with service_process(models, "--port", port) as process:
            yield process

    put(line, "0.png", DARK)
    with watching(f"http://127.0.0.1:{port}", line, "--model", "toy", "--csv", table) as watch:
        until(lambda: any("does not answer" in said for said in watch.err))
        with service():
            until(lambda: len(rows(table)) == 1)
        put(line, "1.png", BRIGHT)
        put(line, "2.png", DARK)
        until(lambda: sum("waiting" in said for said in watch.err) >= 2)
        assert len(rows(table)) == 1
        with service():
            until(lambda: len(rows(table)) == 3)

    assert verdicts(table) == {"0.png": "normal", "1.png": "anomalous", "2.png": "normal"}


# --- sinks ---


class Receiver(ThreadingHTTPServer):
    """A webhook's other end: answers as `status_by_attempt` says, then 200, and keeps what it has taken."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.statuses = list(statuses)
        self.taken: list[tuple[str, Document]] = []
        self.is_away = False
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/parts"

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Receive(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = 503 if server.is_away else server.statuses.pop(0) if server.statuses else 200
        if status == 200:
            server.taken.append((self.headers["Idempotency-Key"], body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_a_webhook_is_told_every_part_until_it_takes_it(url: str, line: Path) -> None:
    with Receiver(500, 429, 200, 400) as receiver, watching(url, line, "--webhook", receiver.url) as watch:
        put(line, "a.png", BRIGHT)
        until(lambda: len(receiver.taken) == 1)
        put(line, "b.png", BRIGHT)
        until(lambda: any("refused part 2, b.png: 400" in said for said in watch.err))
        put(line, "c.png", BRIGHT)
        until(lambda: len(receiver.taken) == 2)

    told = [document for _, document in receiver.taken]
    assert [document["file"] for document in told] == ["a.png", "c.png"]
    assert len({key for key, _ in receiver.taken}) == 2
    assert told[0]["verdict"] == "anomalous"
    assert told[0]["regions"] == [
        {"x": 0, "y": 0, "width": 4, "height": 4, "area": 16, "peak": pytest.approx(0.9612, abs=1e-3)}
    ]
    assert told[0].keys() == {
        *("id", "file", "verdict", "score", "threshold", "p_value", "model", "regions", "problem", "seen")
    }


def test_a_webhook_that_is_away_over_a_restart_is_told_in_order_and_once(url: str, line: Path) -> None:
    with Receiver() as receiver:
        receiver.is_away = True
        with watching(url, line, "--webhook", receiver.url) as watch:
            for i in range(5):
                put(line, f"{i}.png", DARK)
            until(lambda: any("answers 503" in said for said in watch.err))
        receiver.is_away = False
        with watching(url, line, "--webhook", receiver.url):
            put(line, "5.png", DARK)
            until(lambda: len(receiver.taken) == 6)

        with watching(url, line, "--webhook", receiver.url, "--webhook", f"{receiver.url}?new") as watch:
            put(line, "6.png", DARK)
            until(lambda: len(receiver.taken) == 8)

    ids = [document["id"] for _, document in receiver.taken]
    assert ids[:6] == [1, 2, 3, 4, 5, 6]
    assert ids[6:] == [7, 7]  # a sink that is new begins with the next part


def test_files_are_moved_by_their_verdict_and_may_come_again(url: str, line: Path, tmp_path: Path) -> None:
    judged, table = line / "judged", tmp_path / "v.csv"  # in the folder itself: not judged again there

    def moved() -> set[str]:
        return {path.relative_to(judged).as_posix() for path in judged.rglob("*") if path.is_file()}

    with watching(url, line, "--csv", table, "--move", judged, "--patience-s", "0"):
        put(line, "a/good.png", DARK)
        put(line, "a/bad.png", BRIGHT)
        put(line, "broken.png", b"no image")
        until(lambda: len(moved()) == 3)
        assert moved() == {"normal/a/good.png", "anomalous/a/bad.png", "failed/broken.png"}
        (judged / "normal" / "a" / "good.png").rename(line / "a" / "good.png")  # the same file, to be judged again
        until(lambda: len(rows(table)) == 4)
        put(line, "a/bad.png", png(np.full((4, 4), 251, np.uint8)))
        until(lambda: "anomalous/a/bad.5.png" in moved())

    assert not [path for path in line.rglob("*.png") if judged not in path.parents]
    assert [row["verdict"] for row in rows(table) if row["file"] == "a/good.png"] == ["normal", "normal"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """A real Mosquitto on a free port."""
    mosquitto = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if mosquitto is None:
        pytest.skip("mosquitto is not installed: `apt-get install mosquitto`")
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with subprocess.Popen([mosquitto, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        until(lambda: _listens(port))
        yield port
        process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_mqtt_carries_every_verdict_through_a_real_broker(url: str, line: Path, broker: int) -> None:
    aiomqtt = pytest.importorskip("aiomqtt")
    told: list[Document] = []
    listening, stop = threading.Event(), threading.Event()

    async def listen() -> None:
        async with aiomqtt.Client("127.0.0.1", broker) as client:
            await client.subscribe("line/3/verdicts", qos=1)
            listening.set()
            async for message in client.messages:
                told.append(json.loads(message.payload))
                if stop.is_set():
                    return

    listener = threading.Thread(target=asyncio.run, args=(listen(),))
    listener.start()
    listening.wait(30)
    with watching(url, line, "--mqtt", f"mqtt://127.0.0.1:{broker}/line/3/verdicts"):
        put(line, "a.png", DARK)
        until(lambda: len(told) == 1)
        stop.set()
        put(line, "b.png", BRIGHT)
        until(lambda: len(told) == 2)
    listener.join()

    assert [(document["id"], document["file"], document["verdict"]) for document in told] == [
        (1, "a.png", "normal"),
        (2, "b.png", "anomalous"),
    ]


def test_a_broker_that_is_away_is_waited_for(url: str, line: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiomqtt")
    words = ("--mqtt", f"mqtt://127.0.0.1:{free_port()}/verdicts", "--csv", tmp_path / "v.csv")

    with watching(url, line, *words) as watch:
        put(line, "a.png", DARK)
        until(lambda: any("does not accept messages" in said for said in watch.err))
        until(lambda: len(rows(tmp_path / "v.csv")) == 1)  # the others go on

    with sqlite3.connect(line / ".hourglass-watch.db") as history:
        positions = [position for _, position in history.execute("SELECT name, position FROM sinks ORDER BY name")]
    history.close()
    assert positions == [1, 0]


# --- back-pressure and mistakes ---


def test_a_slow_sink_holds_back_the_asking(tmp_path: Path, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_MOST_BEHIND", 5)
    for i in range(30):
        put(line, f"{i:02}.png", DARK)
    most_behind = 0

    class Service(AsyncHourglass):
        async def anomaly(self, *_: object, **__: object) -> Verdict:
            return Verdict(0.0, 1.0, False, 1.0, (), "toy/1", 0.05, None, 99, 0.01, "good")

    class Slow:
        name = "slow"

        def __init__(self) -> None:
            self.taken: list[int] = []

        async def take(self, part: Part) -> None:
            nonlocal most_behind
            most_behind = max(most_behind, history.backlog())
            await asyncio.sleep(0.01)
            self.taken.append(part.id)
            if part.id == 30:
                stop.set()

        async def close(self) -> None:
            pass

    stop = asyncio.Event()
    with History(tmp_path / "history.db") as history:
        slow = Slow()
        history.register([slow.name])
        folder = Folder(line, history.knows, settle_s=0.01)
        watch = loop.Watch(
            Service(),
            folder,
            history,
            [slow],
            query={},
            heatmaps=None,
            at_once=2,
            patience_s=1,
            say=lambda _: None,
        )
        asyncio.run(watch.run(stop, 60))

    assert slow.taken == list(range(1, 31))
    assert most_behind <= 5 + 2 + 1  # the bound, what is asked, and what is handed over


def test_two_watches_cannot_share_a_history(
    url: str, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(line, "a.png", DARK)
    with watching(url, line, "--csv", tmp_path / "v.csv"):
        until(lambda: len(rows(tmp_path / "v.csv")) == 1)

        assert main(["--url", url, "watch", str(line)]) == 2

    assert "another `hourglass watch` uses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nowhere",), "is no folder and no file"),
        (("line", "--copy", "s3://parts/judged"), "only images of a bucket can be put into a bucket"),
        (("line", "--model", "none"), "no model 'none'"),
        (("line", "--model", "toy", "--ignore", "mask.png"), "toy cannot ignore pixels"),
        (("line", "--ignore", "nowhere.png"), "nowhere.png"),
        (("line", "--mqtt", "127.0.0.1"), "write mqtt://HOST:PORT/TOPIC"),
        (("line", "--mqtt", "mqtt://127.0.0.1/a/+/b"), "must not contain # or +"),
    ],
)
def test_mistakes_are_said_at_once(
    url: str, line: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    if "--mqtt" in words:
        pytest.importorskip("aiomqtt")
    source, *rest = words

    assert main(["--url", url, "watch", str(line.parent / source), *rest]) == 2

    assert reason in capsys.readouterr().err


def folder_of(line: Path) -> Folder:
    return Folder(line, lambda *_: False, settle_s=0)


def part_of(file: Path, source: Path, part_id: int) -> Part:
    name = file.relative_to(source).as_posix()
    return Part(part_id, name, stamp_of(file), "2026-01-01T00:00:00+00:00", "failed", None, "no image")


def test_a_sink_that_is_given_a_part_again_after_a_stop_does_not_take_it_twice(line: Path, tmp_path: Path) -> None:
    file, gone = put(line, "a.png", DARK), list[int]()
    part = part_of(file, line, 1)

    async def take_twice(make: Callable[[], Sink]) -> None:
        for _ in range(2):
            sink = make()
            await sink.take(part)
            await sink.close()

    def putter(folder: str, *, moves: bool) -> Callable[[], Sink]:
        return lambda: Sorted(str(tmp_path / folder), folder_of(line), moves=moves, moved=gone.append, say=print)

    asyncio.run(take_twice(lambda: CsvFile(tmp_path / "v.csv")))
    asyncio.run(take_twice(putter("copied", moves=False)))
    asyncio.run(take_twice(putter("moved", moves=True)))

    assert [row["id"] for row in rows(tmp_path / "v.csv")] == ["1"]
    for folder in ("copied", "moved"):
        assert [path.name for path in (tmp_path / folder).rglob("*.png")] == ["a.png"]
    assert not file.exists()
    assert gone == [1, 1]


def test_a_file_that_was_written_anew_is_not_put_away_as_the_old_one(line: Path, tmp_path: Path) -> None:
    part = part_of(put(line, "a.png", DARK), line, 1)
    put(line, "a.png", BRIGHT + b"another")
    said, gone = list[str](), list[int]()

    asyncio.run(
        Sorted(str(tmp_path / "away"), folder_of(line), moves=True, moved=gone.append, say=said.append).take(part)
    )

    assert "overwritten" in said[0]
    assert (line / "a.png").exists()
    assert not gone


def test_a_file_has_another_stamp_when_it_is_written_anew(tmp_path: Path) -> None:
    first = stamp_of(put(tmp_path, "a.png", DARK))
    put(tmp_path, "b.png", DARK).replace(tmp_path / "a.png")

    assert stamp_of(tmp_path / "a.png") != first
    assert isinstance(first, Stamp)
