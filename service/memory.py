"""Return freed memory from the C library to the system."""

import ctypes
import sys


def release_unused() -> None:
    """Return freed memory to the system, if the C library is glibc. Takes milliseconds.

    Opening a model frees about as much memory as it keeps, and a large image leaves hundreds of megabytes in pieces
    that glibc would not return.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
