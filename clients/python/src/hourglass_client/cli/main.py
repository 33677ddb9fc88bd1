"""The command line: `hourglass denoise in.png out.png`. It talks to a running service and imports nothing of it."""

import argparse
import sys
from collections.abc import Callable, Sequence

from hourglass_client import __version__
from hourglass_client.cli import codec, collections, latents, pictures, verdicts
from hourglass_client.cli.run import EXIT_DONE, EXIT_NOTHING, EXIT_STOPPED, connection_of
from hourglass_client.errors import ClientError
from hourglass_client.sync import Hourglass
from hourglass_client.watch import command

_NAMELESS = {"models", "decompress", "search", "classify"}  # a compressed file and a collection know their model

_EPILOG = """examples:
  hourglass denoise noisy.png clean.png
  hourglass denoise scans/ clean/                 every image of a folder, several at a time
  hourglass anomaly parts/ --csv verdicts.csv --heatmaps bad/ || echo stop the line
  hourglass watch line/ --model hazelnut --csv verdicts.csv --move judged/
  hourglass mask part.png mask.png
  hourglass generate --count 25 --label 7 sevens.png
  hourglass interpolate a.png b.png way.gif       or a strip: way.png
  hourglass compress digits/ digits.hg; hourglass decompress digits.hg digits.zip
  hourglass put parts good/ --labels-from-folders; hourglass classify parts new.png
  hourglass encode digit.png > latent.json; hourglass decode latent.json digit.png
  hourglass encode parts/ latents.npz

To resume an interrupted command over a folder, run it again.
--url or $HGCLIENT_URL names the service (default http://127.0.0.1:8000), $HGCLIENT_KEY its key.
The exit code is 1 if some files had problems (listed on standard error) and 2 if nothing could be done or the service
went away. `anomaly` exits with 3 if every file was judged and some are anomalous."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        with Hourglass(**connection_of(options)) as hourglass:
            code: int = options.run(hourglass, options)
            return code
    except (ClientError, OSError, ValueError) as error:
        print(f"hourglass: {error}", file=sys.stderr)
        return EXIT_NOTHING
    except KeyboardInterrupt:
        print("hourglass: stopped", file=sys.stderr)
        return EXIT_STOPPED


def _models(hourglass: Hourglass, _: argparse.Namespace) -> int:
    for model in hourglass.models():
        print(f"{model.name}/{model.version}: {', '.join(model.tasks)}\n    {model.summary}")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hourglass",
        description="Send images to a running Hourglass service.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hourglass-client {__version__}")
    parser.add_argument("--url", help="address of the service")
    parser.add_argument("--timeout-s", type=float, default=60.0, metavar="S", help="timeout in seconds (default 60)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Hourglass, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run, command=name)
        if name not in _NAMELESS:
            made.add_argument("--model", help="name of the model (default: the default of the task)")
            made.add_argument("--version", type=int, help="version of the model (default: the newest)")
        return made

    for group in (pictures, verdicts, command, latents, codec, collections):
        group.add_commands(add)
    add("models", _models, "list the live models")
    return parser
