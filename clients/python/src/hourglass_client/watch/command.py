"""`hourglass watch FOLDER`: judge what arrives, and tell it."""

import argparse
import asyncio
from pathlib import Path

from hourglass_client.cli.run import EXIT_DONE, AddCommand, add_at_once, add_rate, say
from hourglass_client.errors import Busy, Unreachable
from hourglass_client.sync import Hourglass

HISTORY = ".hourglass-watch.db"


def add_commands(add: AddCommand) -> None:
    """Add its command line."""
    watch = add("watch", _watch, "judge the images that arrive in a folder, and tell the verdicts; Ctrl-C ends it")
    watch.add_argument("source", type=Path, metavar="FOLDER", help="the folder, with what is in it already")
    add_rate(watch)
    text = f"SQLite file that remembers every part and what was told of it (default FOLDER/{HISTORY})"
    watch.add_argument("--history", type=Path, metavar="FILE", help=text)
    text = "a line for every part on standard output: OK, NG or ERROR, file, score, id (default where nothing is named)"
    watch.add_argument("--lines", action="store_true", help=text)
    watch.add_argument("--csv", type=Path, metavar="FILE", help="a row for every part at the end of this file")
    watch.add_argument("--webhook", action="append", default=[], metavar="URL", help="POST every part there as JSON")
    text = "publish every part there as JSON; mqtt://HOST:PORT/TOPIC"
    watch.add_argument("--mqtt", action="append", default=[], metavar="URL", help=text)
    watch.add_argument("--heatmaps", type=Path, metavar="FOLDER", help="a heat map of every anomalous image")
    away = watch.add_mutually_exclusive_group()
    text = "move files into FOLDER/normal, FOLDER/anomalous and FOLDER/failed when all others have been told"
    away.add_argument("--move", type=Path, metavar="FOLDER", help=text)
    away.add_argument("--copy", type=Path, metavar="FOLDER", help="copy them there")
    text = "a file is finished when it has not changed for so long (default 0.04)"
    watch.add_argument("--settle-s", type=float, default=0.04, metavar="S", help=text)
    text = "a file that is still no image after so long without a change has failed (default 2)"
    watch.add_argument("--patience-s", type=float, default=2.0, metavar="S", help=text)
    text = "say counts, rate and latency on standard error so often (default 10)"
    watch.add_argument("--report-s", type=float, default=10.0, metavar="S", help=text)
    add_at_once(watch)


def _watch(hourglass: Hourglass, options: argparse.Namespace) -> int:
    try:
        import watchfiles  # noqa: F401, PLC0415  an extra; said before anything is begun
    except ImportError as error:
        raise ValueError("watch needs watchfiles: `pip install 'hourglass-client[watch]'`") from error
    if not options.source.is_dir():
        raise ValueError(f"{options.source} is not a folder")
    try:
        _check_model(hourglass, options)
    except (Busy, Unreachable) as error:
        say(f"{error}; waiting")
    from hourglass_client.watch.run import run  # noqa: PLC0415  SQLite and fcntl are for this command alone

    asyncio.run(run(options))
    return EXIT_DONE


def _check_model(hourglass: Hourglass, options: argparse.Namespace) -> None:
    """Raise for a model that is not there or finds no anomalies: a mistake in the command, best said at once."""
    if options.model is None:
        return
    tasks = hourglass.model(options.model, version=options.version)["tasks"]
    if "anomaly" not in tasks:
        raise ValueError(f"{options.model} does {', '.join(tasks)}, not anomaly")
