"""`python -m service`: read the settings, then serve in this process or in workers."""

import logging
import os
import sys

from service.cores import plan
from service.errors import StartupError
from service.models.probe import start_child
from service.server.exit_codes import EXIT_CANNOT_START, EXIT_STOPPED
from service.settings import Settings, read_settings

_COMMANDS = ("index", "rebuild")


def main() -> int:
    """Return the exit code: 0 after a graceful stop, 1 if requests were aborted, 2 if the service cannot start."""
    if sys.argv[1:2] and sys.argv[1] in _COMMANDS:
        from service.collections.cli import main as index  # noqa: PLC0415  the service does not need it

        return index(sys.argv[1:])
    if sys.argv[1:2] == ["prune"]:
        from service.collections.prune import main as prune  # noqa: PLC0415  as above

        return prune(sys.argv[2:])
    try:
        return run(read_settings(os.environ, sys.argv[1:]))
    except StartupError as error:
        print(f"Hourglass cannot start: {error}", file=sys.stderr)
        return EXIT_CANNOT_START


def run(settings: Settings) -> int:
    """Serve with these settings until a stop signal, and return the exit code."""
    shares = plan(settings.workers, settings.threads)
    settings = settings.model_copy(update={"workers": shares.workers})
    # BLAS does nothing large here, so it needs no thread per core of the host.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    first = start_child(settings) if settings.workers == 1 else None
    try:
        # Imported after the child is started: the imports take as long as its work.
        from service.server.process import listen, serve  # noqa: PLC0415
        from service.server.workers import Supervisor  # noqa: PLC0415
        from service.telemetry.logs import start_logging  # noqa: PLC0415

        start_logging(settings)
        logging.getLogger(__name__).info("%s", shares)
        listener = listen(settings.host, settings.port)
        if settings.workers > 1:
            return Supervisor(settings, listener).run()
        serve(settings, listener, first)
    finally:
        if first is not None:
            first.kill()
    return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
