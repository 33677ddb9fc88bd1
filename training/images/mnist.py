"""MNIST, or any data set in the same four files, from a folder or from a public mirror."""

import gzip
import hashlib
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from training.errors import DataError
from training.files import write_atomically
from training.images.idx import read_idx

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
DOWNLOAD_FOLDER = Path("data/mnist")
DOWNLOAD_TIMEOUT_S = 30.0
LARGEST_DOWNLOAD_BYTES = 2**25  # 32 MiB: three times the largest of the four files

SOURCE = f"{MIRROR} (Y. LeCun, C. Cortes, C. J. C. Burges)"
LICENCE = "CC BY-SA 3.0"

# SHA-256 of each file's content after decompression: mirrors compress the same bytes differently.
SHA256_BY_FILE = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# The same over the pixels alone, training images first: how a folder is recognised as MNIST.
PIXELS_SHA256 = "5b92582eb909c82a9bfefcd44acbe9233be3eb5b419a44cf211022ad2bf4bf96"


@dataclass(frozen=True)
class IdxFolder:
    """The two parts of the data set: images (N, H, W) and labels (N,), or None if the file of labels is missing."""

    train: UInt8[Tensor, "train height width"]
    test: UInt8[Tensor, "test height width"]
    train_labels: UInt8[Tensor, " train"] | None
    test_labels: UInt8[Tensor, " test"] | None


def read_idx_folder(folder: Path) -> IdxFolder:
    """Read the four files of `folder`; those with labels may be missing.

    Raises:
        DataError: A file is missing or damaged, or the parts do not fit each other.
    """
    parts = {}
    for part in ("train", "t10k"):
        images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", axes=3)
        labels_file = folder / f"{part}-labels-idx1-ubyte.gz"
        labels = read_idx(labels_file, axes=1) if labels_file.exists() else None
        if labels is not None and len(labels) != len(images):
            raise DataError(f"{labels_file}: {len(labels)} labels for {len(images)} images")
        parts[part] = images, labels
    (train, train_labels), (test, test_labels) = parts["train"], parts["t10k"]
    if train.shape[1:] != test.shape[1:]:
        raise DataError(f"{folder}: training images are {tuple(train.shape[1:])}, test images {tuple(test.shape[1:])}")
    return IdxFolder(train, test, train_labels, test_labels)


def is_mnist(parts: IdxFolder) -> bool:
    """Return whether the images are exactly those of MNIST."""
    sha256 = hashlib.sha256()
    for images in (parts.train, parts.test):
        sha256.update(images.numpy().data)
    return sha256.hexdigest() == PIXELS_SHA256


def download(folder: Path = DOWNLOAD_FOLDER, *, mirror: str = MIRROR) -> Path:
    """Download missing files of MNIST to `folder`, check the SHA-256 of each, and return the folder.

    Raises:
        DataError: The network is not available, or a checksum differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in SHA256_BY_FILE if not (folder / name).exists()]
    for name in tqdm(missing, desc=f"download MNIST to {folder}", unit="file", disable=not missing):
        try:
            with urllib.request.urlopen(mirror + name, timeout=DOWNLOAD_TIMEOUT_S) as answer:  # noqa: S310 - MIRROR is https
                content = answer.read(LARGEST_DOWNLOAD_BYTES)
        except (urllib.error.URLError, OSError) as error:
            raise DataError(
                f"cannot download {mirror}{name}: {error}. Without network, put the files {', '.join(SHA256_BY_FILE)} "
                "into a folder and give --data FOLDER"
            ) from error
        _keep(content, folder / name)
    return folder


def _content_sha256(gzipped: bytes) -> str:
    try:
        return hashlib.sha256(gzip.decompress(gzipped)).hexdigest()
    except (OSError, EOFError, zlib.error):
        return "of no gzip file"


def _keep(content: bytes, path: Path) -> None:
    with write_atomically(path) as file:
        file.write(content)
        found = _content_sha256(content)
        if found != SHA256_BY_FILE[path.name]:
            raise DataError(f"{path.name} from the mirror has SHA-256 {found}, MNIST's is {SHA256_BY_FILE[path.name]}")
