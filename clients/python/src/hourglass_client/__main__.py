"""The command `hourglass`, also as `python -m hourglass_client`."""

import sys

from hourglass_client.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
