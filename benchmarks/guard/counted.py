"""The process under valgrind: runs every job once, warm, and dumps the counts after each."""

import ctypes
import gc
import sys

from benchmarks.guard.jobs import jobs

WARM = 12  # calls before the one that counts: Python specialises its bytecode in the first ones


def main(library: str) -> None:
    """Run all jobs.

    Args:
        library: Compiled library of marks.c.
    """
    marks = ctypes.CDLL(library)
    gc.disable()
    for name, job in jobs().items():
        for _ in range(WARM):
            job()
        gc.collect()
        marks.begin()
        job()
        marks.end(name.encode())


if __name__ == "__main__":
    main(sys.argv[1])
