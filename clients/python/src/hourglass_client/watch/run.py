"""One `hourglass watch` from its start to its end."""

import argparse
import asyncio
import signal

from hourglass_client.aio import AsyncHourglass
from hourglass_client.cli.run import connection_of, say
from hourglass_client.retry import Retry
from hourglass_client.watch.history import History
from hourglass_client.watch.loop import Watch
from hourglass_client.watch.sinks import CsvFile, Lines, Sink, Sorted, Webhook
from hourglass_client.watch.source import Source
from hourglass_client.watch.sources import history_of, open_source


async def run(options: argparse.Namespace) -> None:
    """Watch until the source ends or a signal comes.

    Raises:
        OSError: The mask of pixels to ignore cannot be read.
    """
    ignore = options.ignore.read_bytes() if options.ignore else None  # once, and before anything is begun
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with History(history_of(options)) as history:
        source = open_source(options, history, say)
        sinks = _sinks(options, source, history)
        history.register([sink.name for sink in sinks])
        async with AsyncHourglass(**connection_of(options), retry=Retry(times=0)) as service:  # the loop is patient
            watch = Watch(
                service,
                source,
                history,
                sinks,
                query={
                    "model": options.model,
                    "version": options.version,
                    "max_fpr": options.max_fpr,
                    "ignore": ignore,
                },
                heatmaps=options.heatmaps,
                at_once=options.at_once,
                patience_s=options.patience_s,
                say=say,
            )
            await watch.run(stop, options.report_s)
            say(str(watch.rates))


def _sinks(options: argparse.Namespace, source: Source, history: History) -> list[Sink]:
    """Return the sinks in order; the one that moves the image comes last."""
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
        sinks.append(Sorted(away, source, moves=bool(options.move), moved=history.gone, say=say))
    return sinks
