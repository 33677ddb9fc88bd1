"""`hourglass watch SOURCE`: judge arriving images and report the verdicts."""

import argparse
import asyncio
from pathlib import Path

from hourglass_client.cli.run import EXIT_DONE, AddCommand, add_at_once, add_ignore, add_rate, say
from hourglass_client.errors import Busy, Unreachable
from hourglass_client.sync import Hourglass


def add_commands(add: AddCommand) -> None:
    """Add the command `watch`."""
    text = "judge images as they arrive in a folder, a video or a bucket, and report the verdicts; Ctrl-C stops it"
    watch = add("watch", _watch, text)
    text = (
        "a folder, a video file, a camera such as /dev/video0, a stream such as rtsp://camera/1, or a bucket such as "
        "s3://parts/line-3; existing images are judged, too"
    )
    watch.add_argument("source", metavar="SOURCE", help=text)
    _add_source_options(watch)
    _add_sinks(watch)
    add_rate(watch)
    add_ignore(watch)
    text = "seconds without a change after which an invalid image has failed (default 2)"
    watch.add_argument("--patience-s", type=float, default=2.0, metavar="S", help=text)
    text = "seconds between reports of counts, rate and latency on standard error (default 10)"
    watch.add_argument("--report-s", type=float, default=10.0, metavar="S", help=text)
    add_at_once(watch)


def _add_source_options(watch: argparse.ArgumentParser) -> None:
    text = (
        "seconds between two frames of a video (default 1; 0 takes all), two listings of a bucket (default 5), or two "
        "full scans of a folder beside the system's notifications (default 30)"
    )
    watch.add_argument("--every-s", type=float, metavar="S", help=text)
    text = (
        "seconds without a change after which a file is complete (default 0.04); 0 takes objects of a bucket when they "
        "are listed, not when two listings agree"
    )
    watch.add_argument("--settle-s", type=float, default=0.04, metavar="S", help=text)
    text = "folder for the frames of a video (default: VIDEO-frames in the current folder)"
    watch.add_argument("--frames", type=Path, metavar="FOLDER", help=text)
    text = (
        "SQLite file with the history of all parts and reports (default: .hourglass-watch.db in the folder of the "
        "images; for a bucket BUCKET.hourglass-watch.db in the current folder)"
    )
    watch.add_argument("--history", type=Path, metavar="FILE", help=text)


def _add_sinks(watch: argparse.ArgumentParser) -> None:
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
    text = "move images to FOLDER/normal, FOLDER/anomalous and FOLDER/failed after all other sinks; those of a bucket "
    text += "also to the URL of another folder or bucket"
    away.add_argument("--move", metavar="FOLDER", help=text)
    away.add_argument("--copy", metavar="FOLDER", help="copy images there instead")


def _watch(hourglass: Hourglass, options: argparse.Namespace) -> int:
    from hourglass_client.watch.sources import kind_of  # noqa: PLC0415  SQLite and fcntl are for this command alone

    kind_of(options.source)  # says what is wrong with it before anything is begun
    try:
        _check_model(hourglass, options)
    except (Busy, Unreachable) as error:
        say(f"{error}; waiting")
    from hourglass_client.watch.run import run  # noqa: PLC0415  as above

    asyncio.run(run(options))
    return EXIT_DONE


def _check_model(hourglass: Hourglass, options: argparse.Namespace) -> None:
    """Raise an error at the start if the model is missing, or does not offer what was asked for."""
    if options.model is None:
        return
    manifest = hourglass.model(options.model, version=options.version)
    if "anomaly" not in manifest["tasks"]:
        raise ValueError(f"{options.model} does {', '.join(manifest['tasks'])}, not anomaly")
    if options.ignore and not manifest["anomaly"].get("takes_nan"):
        raise ValueError(f"{options.model} cannot ignore pixels; train it again, or leave out --ignore")
