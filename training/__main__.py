"""`python -m training`: from a folder of images to a published model."""

import sys

from training.arguments import parse
from training.config import RecipeError
from training.errors import PipelineError

INTERRUPTED = 130  # the shell's status for Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 an error that was explained, 130 interrupted."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        from training.commands import run  # noqa: PLC0415 - PyTorch takes seconds, which no --help should

        run(options)
    except (PipelineError, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}; the same command goes on once that is mended", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
