"""`python -m service`: reads the settings, starts the server or its workers, and ends with 0 when told to stop."""

import os
import sys

from service.errors import StartupError
from service.server import EXIT_CANNOT_START, EXIT_STOPPED, listen, serve, start_logging
from service.settings import read_settings
from service.supervisor import Supervisor


def main() -> int:
    """The exit code: 0 after a graceful stop, 1 if that cut requests off, 2 if the service cannot start."""
    try:
        settings = read_settings(os.environ, sys.argv[1:])
        start_logging(settings)
        listener = listen(settings.host, settings.port)
        if settings.workers > 1:
            return Supervisor(settings, listener).run()
        serve(settings, listener)
    except StartupError as error:
        print(f"Hourglass cannot start: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
