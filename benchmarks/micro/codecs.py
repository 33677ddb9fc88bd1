"""PNG decoding and encoding: our fast path and Pillow alone, in CPU time.

    python -m benchmarks.micro codecs

Random noise over smooth shapes, 8-bit grey and RGB, at the sizes of a digit, a part and a photograph. Reading includes
all steps and checks from the file to the array; "Pillow" is the same with the fast path switched off.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from unittest import mock

from benchmarks.micro.case import Case, parser_of, show
from benchmarks.samples import picture, png_by_pillow
from service.images.codec import decode_image
from service.images.png import write_png

SIDES = (28, 256, 1000, 3464)  # the last one has 12 megapixels
MAX_PIXELS = 25_000_000


def measure(words: Sequence[str]) -> str:
    """Measure and lay out the table."""
    parser_of("codecs", __doc__).parse_args(words)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    sizes: dict[str, float] = {}
    for side in SIDES:
        for channels in (1, 3):
            planes, name = picture(side, channels), f"{side}x{side}x{channels}"
            file = png_by_pillow(planes)
            runs[f"{name} read", "ours"] = partial(decode_image, file, max_pixels=MAX_PIXELS, max_frames=1)
            runs[f"{name} read", "Pillow"] = partial(read_without_the_fast_lane, file)
            runs[f"{name} write", "ours"] = partial(write_png, planes)
            runs[f"{name} write", "Pillow"] = partial(png_by_pillow, planes)
            sizes[f"{name} write"] = len(write_png(planes)) / len(file)

    def gain(_: str, seconds: Mapping[str, float]) -> str:
        return f"{seconds['Pillow'] / seconds['ours']:.1f}x"

    def size(row: str, _: Mapping[str, float]) -> str:
        return f"{sizes[row]:.2f}" if row in sizes else ""

    return show(Case("image", "us", runs, remarks={"gain": gain, "size, ours : Pillow": size}))


def read_without_the_fast_lane(file: bytes) -> object:
    """Decode an image as on a machine without the package of the fast path."""
    with mock.patch("service.images.png.pyspng", None):
        return decode_image(file, max_pixels=MAX_PIXELS, max_frames=1)
