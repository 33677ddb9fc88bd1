"""The picture beside a card: originals over noisy over denoised, so that people can look instead of read."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LABEL_WIDTH, GAP, SHORT_SIDE = 96, 6, 84  # screen pixels
BACKGROUND, INK, LINE = (255, 255, 255), (40, 40, 40), (30, 100, 200)

Images = Float[Tensor, "batch channel height width"]


def rows_of_images(rows: dict[str, Images]) -> bytes:
    """A PNG with one labelled row of images per entry, all rows equally long and of one image size.

    Args:
        rows: Label to images, (N, C, H, W), pixels in [0, 1]; small images are enlarged without smoothing.
    """
    first = next(iter(rows.values()))
    count, _, height, width = first.shape
    scale = max(1, round(SHORT_SIDE / min(height, width)))
    cell_height, cell_width = height * scale + GAP, width * scale + GAP
    size = (LABEL_WIDTH + count * cell_width, GAP + len(rows) * cell_height)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for row, (label, images) in enumerate(rows.items()):
        top = GAP + row * cell_height
        draw.text((LABEL_WIDTH - 10, top + cell_height // 2), label, fill=INK, font=font, anchor="rm")
        for column, image in enumerate(images):
            tile = Image.fromarray(_bytes(image)).resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(tile, (LABEL_WIDTH + column * cell_width, top))
    file = BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def curve(points: Sequence[tuple[float, float]], *, x_label: str, y_label: str) -> bytes:
    """A PNG of a line through points (x, y) in the order of x, with its first, last and best values at the axes.

    Args:
        points: Two or more.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
    """
    x, y = (np.array(values, float) for values in zip(*points, strict=True))
    width, height, left, top, bottom = 560, 300, 70, 30, 50  # screen pixels
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    across, up = width - left - 30, height - top - bottom
    x_span, y_span = float(x.max()) or 1.0, float(y.max() - y.min()) or 1.0
    on_screen = [
        (left + across * float(a) / x_span, top + up * (1 - float(b - y.min()) / y_span))
        for a, b in zip(x, y, strict=True)
    ]
    draw.line([(left, top), (left, top + up), (left + across, top + up)], fill=INK)
    draw.line(on_screen, fill=LINE, width=3)
    for value in (y.min(), y.max()):
        draw.text((left - 6, top + up * (1 - (value - y.min()) / y_span)), f"{value:.2f}", INK, font, anchor="rm")
    for share in (0.0, 0.5, 1.0):
        draw.text((left + across * share, top + up + 6), f"{x.max() * share:.0f}", INK, font, anchor="mt")
    draw.text((left + across // 2, height - 8), x_label, INK, font, anchor="mb")
    draw.text((left, 8), y_label, INK, font, anchor="lt")
    file = BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _bytes(image: Float[Tensor, "channel height width"]) -> NDArray[np.uint8]:
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()  # grey or colour -> (H, W, 3)
    rounded: NDArray[np.uint8] = (pixels * 255.0).round().astype(np.uint8)
    return rounded
