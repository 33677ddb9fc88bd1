"""`python -m service`: reads the settings, starts the server, and ends with 0 when it is told to stop."""

import logging
import os
import signal
import sys
from types import FrameType

import uvicorn

from service.app import create_app
from service.errors import StartupError
from service.settings import Settings, read_settings

EXIT_CANNOT_START = 2


def main() -> int:
    """The exit code: 0 after a graceful stop, 2 if the service cannot start as configured."""
    try:
        settings = read_settings(os.environ, sys.argv[1:])
        logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
        logging.captureWarnings(capture=True)
        server = uvicorn.Server(_uvicorn_config(settings))
    except StartupError as error:
        print(f"Hourglass cannot start: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    # uvicorn raises the signal again once it has stopped, for whoever had it before. That is us, and it means success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_with_success)
    server.run()
    return 0


def _uvicorn_config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        timeout_graceful_shutdown=settings.grace_s,
    )


def _exit_with_success(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
