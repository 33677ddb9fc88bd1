"""`hourglass compress` and `decompress`, and the choice of the model."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hourglass_client.answers import NPY_TYPE, Model
from hourglass_client.cli.run import ARCHIVES, EXIT_DONE, AddCommand, say, type_of
from hourglass_client.folders import some_images
from hourglass_client.sync import Hourglass

_SAMPLE = 16
# digits-compressed at its default rate: 22.0 dB on digits of MNIST, 12.0 on KMNIST, 6.3 on pieces of a photograph
_KNOWS_FROM_DB = 18.0


def add_commands(add: AddCommand) -> None:
    """Add the commands `compress` and `decompress`."""
    text = "compress images into one small file, with the model that suits them"
    compress = add("compress", _compress, text)
    compress.add_argument("images", nargs="+", metavar="IMAGE", help="images or folders")
    compress.add_argument("output", type=Path, help="the file to write, digits.hg")
    compress.add_argument(
        "--rate", type=int, metavar="R", help="quality, 0 for the smallest file (default: the model's)"
    )
    decompress = add(
        "decompress", _decompress, "restore the images of a compressed file: several into a .zip or an .npy"
    )
    decompress.add_argument("file", type=Path)
    decompress.add_argument("output", type=Path)


def _compress(hourglass: Hourglass, options: argparse.Namespace) -> int:
    files = some_images(options.images)
    model = options.model
    if model is None:
        model, why = suiting(hourglass, files)
        say(why)
    file = hourglass.compress(list(files), rate=options.rate, model=model, version=options.version)
    file.save(options.output)
    size, before = len(file.content), sum(path.stat().st_size for path in files)
    say(
        f"{options.output}: {len(files)} files of {before} bytes in {size} bytes, {size / len(files):.1f} each, "
        f"by {file.model}"
    )
    return EXIT_DONE


def _decompress(hourglass: Hourglass, options: argparse.Namespace) -> int:
    hourglass.decompress(options.file, accept=type_of(options.output, more=ARCHIVES)).save(options.output)
    return EXIT_DONE


def suiting(hourglass: Hourglass, files: Sequence[Path]) -> tuple[str | None, str]:
    """Choose the model to compress the images, None for the default, and return the reason.

    A model of a fixed size is useful only for images like its training images. It is chosen if all images have exactly
    its size, it reconstructs a sample of them well, and their file is smaller than by the default.
    """
    compressing = [model for model in hourglass.models() if "compress" in model.tasks]
    if len(compressing) < 2:
        return None, "the only model that compresses does it"
    shapes = {_shape(file) for file in files}
    if len(shapes) != 1 or None in shapes:
        return None, "the default model compresses: these are not all of one size"
    (shape,) = shapes
    height, width, is_grey = shape or (0, 0, False)
    fixed = [model for model in compressing if _takes(model, height, width)]
    if not fixed or not is_grey:
        return (
            None,
            f"using the default model: no other takes {width}x{height}{'' if is_grey else ' in colour'}",
        )
    sample = list(files[:: -(-len(files) // _SAMPLE)])
    usual = len(hourglass.compress(list(sample)).content)
    for model in fixed:
        compressed = hourglass.compress(list(sample), model=model.name)
        psnr_db = _psnr_db(hourglass.decompress(compressed, accept=NPY_TYPE).array(), sample)
        if psnr_db >= _KNOWS_FROM_DB and len(compressed.content) < usual:
            return model.name, (
                f"{model.name} fits these images ({psnr_db:.1f} dB on {len(sample)} of them) and needs "
                f"{len(compressed.content) / usual:.0%} of the bytes of the default model"
            )
    names = ", ".join(model.name for model in fixed)
    return None, f"the default model compresses: {names} takes {width}x{height}, but does not know such images"


def _shape(file: Path) -> tuple[int, int, bool] | None:
    """Return height, width, and whether the image is grey; None if Pillow cannot open the file."""
    try:
        with Image.open(file) as picture:
            return picture.height, picture.width, picture.mode in {"1", "L"}
    except OSError:  # an array, or broken: the service says what is wrong with it
        return None


def _takes(model: Model, height: int, width: int) -> bool:
    takes = model.document["input"]
    return (takes["height"], takes["width"]) == (height, width)


def _psnr_db(decoded: np.ndarray[tuple[int, ...], np.dtype[np.float32]], files: Sequence[Path]) -> float:
    """Return peak signal-to-noise ratio over all pixels; `decoded` (N, 1, H, W), or (1, H, W) for one, in [0, 1]."""
    originals = []
    for file in files:
        with Image.open(file) as picture:
            originals.append(np.asarray(picture.convert("L"), np.float32) / 255)
    error = float(np.mean((decoded.reshape(len(files), *originals[0].shape) - np.stack(originals)) ** 2))
    return float("inf") if error == 0 else float(-10 * np.log10(error))
