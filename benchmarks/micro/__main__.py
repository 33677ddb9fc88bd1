"""`python -m benchmarks.micro`: CPU seconds of parts of the service and of alternatives."""

import sys
from collections.abc import Sequence

from benchmarks.commands import run_command

CASES = {
    "codecs": "PNG in and out: ours beside Pillow alone",
    "growth": "how work grows with the side of an image, and with the images of a batch",
    "images": "all work on an image beside what nobody can avoid",
    "regions": "regions of an anomaly map: ours beside scipy.ndimage",
    "walk": "which files one request to /denoise passes, in order",
    "stages": "what the stages of one small request cost, model beside model",
    "counting": "what a request pays for being counted",
    "precision": "ways to run one graph: float32, int8, float16, bound tensors",
    "paint": "how soon the tabs of the page show something, in Chromium",
    "memory": "what each model takes, closed and open, and how soon it opens again",
    "threads": "a second thread inside an inference, spinning and sleeping",
    "inferencers": "a part in our detector and in anomalib's (needs anomalib)",
    "search": "an exact search: our stores beside FAISS and NumPy",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one benchmark and return its exit status."""
    about = "Parts of the service beside other ways to do the same, in CPU seconds, taken in turns."
    return run_command("micro", about, CASES, words)


if __name__ == "__main__":
    sys.exit(main())
