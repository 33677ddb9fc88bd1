"""Memory that the C library keeps for later, given back to the system."""

import ctypes
import sys


def release_unused() -> None:
    """Give freed memory back to the system, where the C library is glibc. Takes milliseconds.

    Opening a model frees about as much as it keeps, and a large picture leaves hundreds of megabytes, in pieces that
    glibc would hold on to.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
