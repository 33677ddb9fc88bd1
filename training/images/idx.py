"""IDX files, the format of MNIST and similar data sets, https://yann.lecun.com/exdb/mnist/.

A header of big-endian 32-bit numbers (a magic number, then the length of every axis), then one byte per value, all
gzipped. The magic number is 0x0800 (unsigned bytes) + the number of axes: 2051 for images, 2049 for labels.
"""

import gzip
import math
import zlib
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from training.errors import DataError

UNSIGNED_BYTES = 0x0800
LARGEST_FILE_BYTES = 2**32  # 4 GiB: 70 times MNIST; a header that promises more is damaged, or hostile


def read_idx(path: Path, *, axes: int) -> UInt8[Tensor, "..."]:
    """Read the array in the gzipped IDX file at `path`: 3 axes are images (N, H, W), 1 axis is labels (N,).

    Raises:
        DataError: The file is missing, is not gzip, has another magic number, or another length than its header says.
    """
    header_bytes = 4 * (1 + axes)
    try:
        with gzip.open(path, "rb") as file:
            header = file.read(header_bytes)
            if len(header) < header_bytes:
                raise DataError(f"{path}: ends inside its header, after {len(header)} of {header_bytes} bytes")
            magic, *shape = (int.from_bytes(header[at : at + 4], "big") for at in range(0, header_bytes, 4))
            if magic != UNSIGNED_BYTES + axes:
                raise DataError(f"{path}: magic number {magic}, an IDX file of {axes} axes has {UNSIGNED_BYTES + axes}")
            expected = math.prod(shape)
            if not 0 < expected <= LARGEST_FILE_BYTES:
                raise DataError(f"{path}: its header promises the shape {tuple(shape)}, which no usable file has")
            values = file.read(expected + 1)  # one more than promised, to notice what is too long
    except FileNotFoundError as error:
        raise DataError(f"no file {path}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged or not gzip: {error}") from error
    if len(values) != expected:
        found = f"only {len(values)}" if len(values) < expected else "more"
        raise DataError(f"{path}: its header promises {expected} bytes of shape {tuple(shape)}, it holds {found}")
    return torch.frombuffer(bytearray(values), dtype=torch.uint8).reshape(shape)
