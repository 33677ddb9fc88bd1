"""One `hourglass watch` from its start to its end."""

import argparse
import asyncio
import signal
from pathlib import Path

from hourglass_client.aio import AsyncHourglass
from hourglass_client.cli.run import connection_of, say
from hourglass_client.retry import Retry
from hourglass_client.watch.command import HISTORY
from hourglass_client.watch.folder import Folder
from hourglass_client.watch.history import History
from hourglass_client.watch.loop import Watch
from hourglass_client.watch.sinks import CsvFile, Lines, Sink, Sorted, Webhook
from hourglass_client.watch.video import Video, prefix_of

_LOOK_EVERY_S = 0.05  # whether the last frames are judged


async def run(options: argparse.Namespace) -> None:
    """Watch until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with History(options.history or options.source / HISTORY) as history:
        sinks = _sinks(options, history)
        history.register([sink.name for sink in sinks])
        ignored = [folder for folder in (options.move, options.copy, options.heatmaps) if folder]
        folder = Folder(options.source, history.knows, ignored=ignored, settle_s=options.settle_s)
        async with AsyncHourglass(**connection_of(options), retry=Retry(times=0)) as service:  # the loop is patient
            watch = Watch(
                service,
                folder,
                history,
                sinks,
                query={"model": options.model, "version": options.version, "max_fpr": options.max_fpr},
                heatmaps=options.heatmaps,
                at_once=options.at_once,
                patience_s=options.patience_s,
                say=say,
            )
            filming = asyncio.create_task(_film(options, folder, history, stop)) if options.video else None
            await watch.run(stop, options.report_s)
            if filming is not None:
                filming.cancel()
                await asyncio.wait([filming])
                if not filming.cancelled():
                    filming.result()  # raises what is wrong with a file
            say(str(watch.rates))


async def _film(options: argparse.Namespace, folder: Folder, history: History, stop: asyncio.Event) -> None:
    """Write frames into the folder; at the end of a file, stop once all of them are judged."""
    video = Video(options.video, options.source, every_s=options.every_s, waiting=lambda: folder.waiting, say=say)
    try:
        if video.is_live:
            await video.run(())
        prefix = prefix_of(Path(options.video))
        await video.run(history.names(prefix))
        while not video.written <= history.names(prefix):
            await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        stop.set()
        if video.left_out:
            say(f"{video.left_out} frames were left out: they came faster than they were judged")


def _sinks(options: argparse.Namespace, history: History) -> list[Sink]:
    """Return the sinks in order; the one that moves the file comes last."""
    sinks: list[Sink] = []
    if options.csv:
        sinks.append(CsvFile(options.csv))
    sinks += [Webhook(url, history.name, say) for url in options.webhook]
    if options.mqtt:
        try:
            from hourglass_client.watch.mqtt import Mqtt  # noqa: PLC0415  needs an extra
        except ImportError as error:
            raise ValueError("--mqtt needs aiomqtt: `pip install 'hourglass-client[mqtt]'`") from error
        sinks += [Mqtt(url) for url in options.mqtt]
    if options.opcua:
        try:
            from hourglass_client.watch.opcua import OpcUa  # noqa: PLC0415  needs an extra
        except ImportError as error:
            raise ValueError("--opcua needs asyncua: `pip install 'hourglass-client[opcua]'`") from error
        sinks += [OpcUa(url) for url in options.opcua]
    away = options.move or options.copy
    if options.lines or not (sinks or away or options.heatmaps):
        sinks.append(Lines())
    if away:
        sinks.append(Sorted(away, options.source, moves=bool(options.move), moved=history.gone, say=say))
    return sinks
