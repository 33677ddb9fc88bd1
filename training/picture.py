"""The picture of a card: rows of original, noisy and denoised images."""

from io import BytesIO
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LABEL_WIDTH, LABEL_GAP, GAP, SHORT_SIDE = 96, 10, 6, 84  # screen pixels; the first is the least
BACKGROUND, INK = (255, 255, 255), (40, 40, 40)

AnyImage = TypeVar("AnyImage", Tensor, NDArray[np.uint8])
Images = Float[Tensor, "batch channel height width"]


def rows_of_images(rows: dict[str, Images]) -> bytes:
    """Draw a PNG with one labelled row of images per entry. All rows have the same shape.

    Args:
        rows: Label to images, (N, C, H, W), pixels in [0, 1]; small images are enlarged without smoothing.
    """
    first = next(iter(rows.values()))
    count, _, height, width = first.shape
    scale = max(1, round(SHORT_SIDE / min(height, width)))
    cell_height, cell_width = height * scale + GAP, width * scale + GAP
    font = ImageFont.load_default(14)
    left = max(LABEL_WIDTH, *(int(font.getlength(label)) + 2 * LABEL_GAP for label in rows))
    sheet = Image.new("RGB", (left + count * cell_width, GAP + len(rows) * cell_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for row, (label, images) in enumerate(rows.items()):
        top = GAP + row * cell_height
        draw.text((left - LABEL_GAP, top + cell_height // 2), label, fill=INK, font=font, anchor="rm")
        for column, image in enumerate(images):
            tile = Image.fromarray(_bytes(image)).resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(tile, (left + column * cell_width, top))
    file = BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def grid_of_images(images: Images, columns: int) -> bytes:
    """Draw a PNG of all images, edge to edge in reading order.

    Args:
        images: (N, C, H, W), pixels in [0, 1]; small ones are enlarged without smoothing.
        columns: Images in a row.
    """
    count, _, height, width = images.shape
    scale = max(1, round(SHORT_SIDE / 2 / min(height, width)))
    size = (columns * width * scale, -(-count // columns) * height * scale)
    sheet = Image.new("RGB", size, BACKGROUND)
    for i, image in enumerate(images):
        tile = Image.fromarray(_bytes(image)).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(tile, (i % columns * width * scale, i // columns * height * scale))
    file = BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def middle(x: AnyImage, side: int) -> AnyImage:
    """Crop the middle of an image (..., H, W) to at most `side` pixels square."""
    top, left = (max(0, (whole - side) // 2) for whole in x.shape[-2:])
    return x[..., top : top + side, left : left + side]


def _bytes(image: Float[Tensor, "channel height width"]) -> NDArray[np.uint8]:
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()  # grey or colour -> (H, W, 3)
    rounded: NDArray[np.uint8] = (pixels * 255.0).round().astype(np.uint8)
    return rounded
