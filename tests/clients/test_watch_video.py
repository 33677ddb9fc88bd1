"""`hourglass watch VIDEO`: frames of a video become parts, each once."""

import asyncio
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hourglass_client.__main__ import main
from hourglass_client.watch.history import History
from hourglass_client.watch.part import Part
from hourglass_client.watch.video import Video, is_live, prefix_of, without_password
from tests.clients.test_watch import rows
from tests.service.slowmodel import service_process, until
from tests.service.toymodels import publish_toy

pytest.importorskip("watchfiles")
av = pytest.importorskip("av")
FPS = 10


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    publish_toy(models)
    with service_process(models) as process:
        yield process.url


def write_video(path: Path, levels: list[int]) -> Path:
    """A video of grey frames, 16x16, ten a second."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for i, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def watch(url: str, video: Path, frames: Path, table: Path, *words: str) -> int:
    return main(["--url", url, "watch", str(video), "--frames", str(frames), "--csv", str(table), *words])


def test_every_frame_of_a_file_is_judged_once_and_then_it_ends(url: str, tmp_path: Path) -> None:
    video = write_video(tmp_path / "belt.mp4", [0, 0, 250, 0])
    frames, table = tmp_path / "frames", tmp_path / "verdicts.csv"

    code = watch(url, video, frames, table, "--every-s", "0", "--model", "toy")
    again = watch(url, video, frames, table, "--every-s", "0", "--model", "toy")

    found = rows(table)
    assert (code, again) == (0, 0)
    assert [row["verdict"] for row in sorted(found, key=lambda row: row["file"])] == [
        "normal",
        "normal",
        "anomalous",
        "normal",
    ]
    assert sorted(path.name for path in frames.glob("*.png")) == sorted(row["file"] for row in found)
    assert all(row["file"].startswith("belt-") for row in found)


def test_frames_that_were_moved_away_do_not_come_again(url: str, tmp_path: Path) -> None:
    video = write_video(tmp_path / "belt.mp4", [0, 250])
    frames, table, judged = tmp_path / "frames", tmp_path / "verdicts.csv", tmp_path / "judged"

    for _ in range(2):
        assert watch(url, video, frames, table, "--every-s", "0", "--move", str(judged)) == 0

    assert len(rows(table)) == 2
    assert sorted(path.parent.name for path in judged.rglob("*.png")) == ["anomalous", "normal"]


def frames_of(video: Path, folder: Path, *, every_s: float = 0) -> list[str]:
    """The frames of a video, judged one after the other to its end."""
    names = []

    async def judge(source: Video, history: History) -> None:
        async for name, stamp in source.arrivals():
            names.append(name)
            history.add(Part(0, name, stamp, "2026-01-01T00:00:00+00:00", "failed", None, None))
            source.done(name)

    with History(folder / "history.db") as history:
        source = Video(str(video), folder, history, every_s=every_s, say=print)
        asyncio.run(judge(source, history))
    return names


def film(
    video: Path | str, folder: Path, *, until_it: Callable[[Video], bool], said: list[str] | None = None
) -> list[str]:
    """Takes the frames of a stream until something is true, without judging them, and returns what is said."""
    said = [] if said is None else said

    async def run(source: Video) -> None:
        arrivals = source.arrivals()
        first = asyncio.create_task(anext(arrivals))
        await asyncio.to_thread(until, lambda: until_it(source))
        first.cancel()
        await asyncio.wait([first])
        await arrivals.aclose()

    with History(folder / "history.db") as history:
        asyncio.run(run(Video(str(video), folder, history, every_s=0, say=said.append)))
    return said


@pytest.mark.parametrize(("every_s", "times"), [(0, range(0, 1000, 100)), (0.25, [0, 300, 500, 800]), (9, [0])])
def test_frames_are_taken_on_a_grid_of_time(tmp_path: Path, every_s: float, times: list[int]) -> None:
    video = write_video(tmp_path / "belt.mp4", list(range(0, 250, 25)))

    names = frames_of(video, tmp_path / "frames", every_s=every_s)

    assert sorted(names) == [f"{prefix_of(video)}{time / 1000:012.3f}.png" for time in times]


def test_a_frame_is_a_picture_of_its_size(tmp_path: Path) -> None:
    video = write_video(tmp_path / "belt.mp4", [200])

    (name,) = frames_of(video, tmp_path / "frames")

    with Image.open(tmp_path / "frames" / name) as picture:
        assert (picture.size, picture.mode) == ((16, 16), "RGB")
        assert abs(int(np.asarray(picture).mean()) - 200) <= 3  # MPEG-4 is not exact


def test_another_file_of_the_same_name_has_other_frames(tmp_path: Path) -> None:
    first = prefix_of(write_video(tmp_path / "belt.mp4", [0]))

    assert prefix_of(write_video(tmp_path / "belt.mp4", [0, 250, 0])) != first


def test_a_stream_that_is_judged_too_slowly_leaves_frames_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "belt.mp4", [0] * 5)
    monkeypatch.setattr("hourglass_client.watch.video.is_live", lambda _: True)
    monkeypatch.setattr("hourglass_client.watch.video._MOST_WAITING", 0)

    said = film(video, tmp_path / "frames", until_it=lambda source: source.left_out >= 10)  # it was opened again

    assert not list((tmp_path / "frames").glob("*.png"))
    assert "the stream has ended; opening it again" in said[0]
    assert "frames were left out" in said[-1]


def test_a_silent_stream_does_not_delay_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hourglass_client.watch.video._SILENT_S", 3600.0)
    monkeypatch.setattr("hourglass_client.watch.video._GOODBYE_S", 0.01)
    readers = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as server, History(tmp_path / "history.db") as history:
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"

        async def watch_and_stop(source: Video) -> socket.socket:
            arrivals = source.arrivals()
            first = asyncio.create_task(anext(arrivals))
            camera, _ = await asyncio.to_thread(server.accept)  # and sends nothing
            first.cancel()
            await asyncio.wait([first])
            await arrivals.aclose()
            return camera

        source = Video(url, tmp_path / "frames", history, every_s=0, say=print)
        with asyncio.run(watch_and_stop(source)):  # ends within this hour
            (reader,) = set(threading.enumerate()) - readers
            assert reader.daemon
        reader.join()


RTSP_SERVER = """
import gi
gi.require_versions({"Gst": "1.0", "GstRtspServer": "1.0"})
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory(shared=True)
picture = "video/x-raw,format=I420,width=64,height=48,framerate=20/1"
factory.set_launch(f"videotestsrc is-live=true ! {picture} ! jpegenc ! rtpjpegpay name=pay0")
server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
server.get_mount_points().add_factory("/belt", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


@pytest.fixture
def rtsp() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a stream, and the process that serves it."""
    python = "/usr/bin/python3"  # of Debian, as its packages for GStreamer are
    with subprocess.Popen([python, "-c", RTSP_SERVER], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            if not (port := server.stdout.readline().strip()):
                pytest.skip("apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good")
            yield f"rtsp://127.0.0.1:{port}/belt", server
        finally:
            server.kill()


@pytest.mark.slow
def test_frames_of_an_rtsp_stream_are_written_and_a_broken_one_is_opened_again(
    rtsp: tuple[str, subprocess.Popen[str]], tmp_path: Path
) -> None:
    (address, server), frames = rtsp, tmp_path / "frames"

    def has_three(source: Video) -> bool:
        return len(list(frames.glob("*.png"))) >= 3

    film(address, frames, until_it=has_three)
    with Image.open(next(frames.glob("*.png"))) as picture:
        assert picture.size == (64, 48)
    server.kill()
    server.wait()
    said: list[str] = []
    film(address, tmp_path / "none", until_it=lambda _: len(said) >= 2, said=said)

    assert all("Connection refused" in line and "opening it again" in line for line in said)


def test_a_camera_is_opened_as_a_device_of_video4linux() -> None:
    with pytest.raises(OSError, match="Inappropriate ioctl"):  # asked for its capabilities, which is no camera
        av.open("/dev/null", format="v4l2")


@pytest.mark.parametrize(
    ("source", "expected"),
    [("rtsp://camera/1", True), ("http://camera/stream", True), ("/dev/video0", True), ("belt.mp4", False)],
)
def test_streams_and_cameras_have_no_end(source: str, expected: bool) -> None:
    assert is_live(source) is expected


def test_a_stream_is_written_under_the_time_of_each_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "belt.mp4", [0] * 5)
    monkeypatch.setattr("hourglass_client.watch.video.is_live", lambda _: True)
    frames = tmp_path / "frames"

    film(video, frames, until_it=lambda _: len(list(frames.glob("*.png"))) >= 5)

    assert all(re.fullmatch(r"20\d{6}T\d{6}\.\d{6}Z\.png", path.name) for path in frames.glob("*.png"))


def test_a_message_does_not_show_the_password_of_a_camera() -> None:
    assert without_password("rtsp://user:p@ss@camera/1") == "rtsp://camera/1"
    assert without_password("/dev/video0") == "/dev/video0"


def test_a_file_that_is_no_video_is_said(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "belt.mp4").write_bytes(b"no video")

    assert watch(url, tmp_path / "belt.mp4", tmp_path / "frames", tmp_path / "v.csv") == 2

    assert "Invalid data" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_said_at_once(
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert watch(url, tmp_path / "none.mp4", tmp_path / "frames", tmp_path / "v.csv") == 2

    assert "none.mp4 is no folder and no file" in capsys.readouterr().err
