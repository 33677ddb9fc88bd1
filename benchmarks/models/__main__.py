"""`python -m benchmarks.models`: the shipped models and their peers on public test sets."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

# Name to the function that measures it, imported once it is asked for: PyTorch takes seconds.
WHOLE = {
    "anomaly": "anomaly:benchmark",
    "blind": "blind:benchmark_blind",
    "compression": "compression:benchmark",
    "photo-compression": "photo_compression:benchmark",
    "default": "default:benchmark",
    "noise": "noise:benchmark",
    "generation": "latents:benchmark_generation",
    "real-noise": "camera_noise:benchmark_real_noise",
    "regularisation": "latents:benchmark_regularisation",
    "restoration": "pictures:benchmark",
    "training": "training_speed:benchmark",
}
# Name to that function and the one section of it to measure.
SECTIONS = {
    **{
        f"anomaly-{data}": ("anomaly", data)
        for data in ("parts", "few", "ignore", "source", "mnist", "fashion", "probes")
    },
    **{f"blind-{data}": ("blind", data) for data in ("noise", "cameras")},
    **{model: ("restoration", model) for model in ("photo-grey", "photo", "photo-x2", "scan")},
}
INTERRUPTED = 130  # the shell's status for Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Measure and return the exit status: 0 done, 1 an error that was explained, 130 interrupted."""
    options = _parser().parse_args(arguments)
    import torch  # noqa: PLC0415  so that --help answers at once

    from training.config import RecipeError  # noqa: PLC0415
    from training.errors import PipelineError  # noqa: PLC0415

    if options.threads:
        torch.set_num_threads(options.threads)
    whole, *only = SECTIONS.get(options.what, (options.what,))
    benchmark: Callable[..., None] = resolve_name(f"benchmarks.models.{WHOLE[whole]}")
    chosen = {"only": only} if only else {}
    try:
        benchmark(options.data, options.models, options.docs, is_quick=options.quick, **chosen)
    except (PipelineError, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("what", choices=sorted({*WHOLE, *SECTIONS}), help="which models; restoration: all for pictures")
    parser.add_argument("--data", type=Path, required=True, help="folder with the test sets")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="whose page and pictures are made anew")
    parser.add_argument("--quick", action="store_true", help="a first look at little data; the page stays as it is")
    parser.add_argument("--models", type=Path, default=Path("models"), help="published models (default: models)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: one per core)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
