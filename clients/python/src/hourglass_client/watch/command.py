"""`hourglass watch FOLDER`: judge arriving images and report the verdicts."""

import argparse
import asyncio
from pathlib import Path

from hourglass_client.cli.run import EXIT_DONE, AddCommand, add_at_once, add_rate, say
from hourglass_client.errors import Busy, Unreachable
from hourglass_client.sync import Hourglass
from hourglass_client.watch.video import is_live

HISTORY = ".hourglass-watch.db"


def add_commands(add: AddCommand) -> None:
    """Add the command `watch`."""
    watch = add("watch", _watch, "judge images as they arrive in a folder, and report the verdicts; Ctrl-C stops it")
    watch.add_argument("source", type=Path, metavar="FOLDER", help="folder to watch; existing files are judged, too")
    watch.set_defaults(video=None)
    _add_options(watch)
    text = "judge frames of a video file, a camera or a stream, and report the verdicts"
    video = add("watch-video", _watch, text)
    text = "a file, an address such as rtsp://camera/1, or a camera such as /dev/video0"
    video.add_argument("video", metavar="VIDEO", help=text)
    text = "folder that the frames are written to, and that is watched"
    video.add_argument("source", type=Path, metavar="FOLDER", help=text)
    text = "seconds between two frames (default 1); 0 takes all"
    video.add_argument("--every-s", type=float, default=1.0, metavar="S", help=text)
    _add_options(video)


def _add_options(watch: argparse.ArgumentParser) -> None:
    add_rate(watch)
    text = f"SQLite file with the history of all parts and reports (default FOLDER/{HISTORY})"
    watch.add_argument("--history", type=Path, metavar="FILE", help=text)
    text = "print a line per part: OK, NG or ERROR, file, score, id (default if there is no other sink)"
    watch.add_argument("--lines", action="store_true", help=text)
    watch.add_argument("--csv", type=Path, metavar="FILE", help="append a row per part to this file")
    watch.add_argument(
        "--webhook", action="append", default=[], metavar="URL", help="POST every verdict to this URL as JSON"
    )
    text = "publish every verdict as JSON; mqtt://HOST:PORT/TOPIC"
    watch.add_argument("--mqtt", action="append", default=[], metavar="URL", help=text)
    text = "write every verdict into variables of an OPC UA server; opc.tcp://HOST:PORT#NODE"
    watch.add_argument("--opcua", action="append", default=[], metavar="URL", help=text)
    watch.add_argument(
        "--heatmaps", type=Path, metavar="FOLDER", help="write a heat map of every anomalous image to this folder"
    )
    away = watch.add_mutually_exclusive_group()
    text = "move files to FOLDER/normal, FOLDER/anomalous and FOLDER/failed after all other sinks"
    away.add_argument("--move", type=Path, metavar="FOLDER", help=text)
    away.add_argument("--copy", type=Path, metavar="FOLDER", help="copy files there instead")
    text = "seconds without a change after which a file is complete (default 0.04)"
    watch.add_argument("--settle-s", type=float, default=0.04, metavar="S", help=text)
    text = "seconds without a change after which an invalid image has failed (default 2)"
    watch.add_argument("--patience-s", type=float, default=2.0, metavar="S", help=text)
    text = "seconds between reports of counts, rate and latency on standard error (default 10)"
    watch.add_argument("--report-s", type=float, default=10.0, metavar="S", help=text)
    add_at_once(watch)


def _watch(hourglass: Hourglass, options: argparse.Namespace) -> int:
    try:
        import watchfiles  # noqa: F401, PLC0415  an extra; said before anything is begun
    except ImportError as error:
        raise ValueError("watch needs watchfiles: `pip install 'hourglass-client[watch]'`") from error
    if options.video is not None:
        _check_video(options)
    if not options.source.is_dir():
        raise ValueError(f"{options.source} is not a folder")
    try:
        _check_model(hourglass, options)
    except (Busy, Unreachable) as error:
        say(f"{error}; waiting")
    from hourglass_client.watch.run import run  # noqa: PLC0415  SQLite and fcntl are for this command alone

    asyncio.run(run(options))
    return EXIT_DONE


def _check_video(options: argparse.Namespace) -> None:
    try:
        import av  # noqa: F401, PLC0415  as above
    except ImportError as error:
        raise ValueError("watch-video needs PyAV: `pip install 'hourglass-client[watch,video]'`") from error
    if not is_live(options.video) and not Path(options.video).is_file():
        raise ValueError(f"{options.video} is no file; a stream begins with rtsp:// or the like")
    options.source.mkdir(parents=True, exist_ok=True)


def _check_model(hourglass: Hourglass, options: argparse.Namespace) -> None:
    """Raise an error at the start if the model is missing or does not offer the anomaly task."""
    if options.model is None:
        return
    tasks = hourglass.model(options.model, version=options.version)["tasks"]
    if "anomaly" not in tasks:
        raise ValueError(f"{options.model} does {', '.join(tasks)}, not anomaly")
