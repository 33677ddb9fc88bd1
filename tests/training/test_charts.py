"""Charts: PNG files that are the same every time and show what they were given."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from training.charts import CLASS_COLOURS, COLOURS, histogram, lines, scatter


def colours_of(png: bytes) -> set[str]:
    image = Image.open(BytesIO(png)).convert("RGB")
    return {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.asarray(image).reshape(-1, 3)}


@pytest.mark.parametrize("log", [False, True])
def test_every_line_has_a_colour_of_its_own_and_the_bytes_repeat(log: bool) -> None:
    series = {"PCA": [(2.0, 0.05), (32.0, 0.02)], "ours": [(2.0, 0.04), (32.0, 0.01)]}

    png = lines(series, x_label="latents", y_label="mse", log_x=log, log_y=log)

    assert {c.lower() for c in COLOURS[:2]} <= colours_of(png)
    assert png == lines(series, x_label="latents", y_label="mse", log_x=log, log_y=log)


def test_a_line_of_one_point_is_drawn() -> None:
    png = lines({"JPEG": [(0.5, 29.0)]}, x_label="bits", y_label="dB")

    assert COLOURS[0].lower() in colours_of(png)


def test_classes_of_a_scatter_have_their_colours() -> None:
    points = np.random.default_rng(0).normal(size=(300, 2))

    png = scatter(points, [str(i % 3) for i in range(300)])

    found = colours_of(png)
    assert set(CLASS_COLOURS[:3]) <= found
    assert CLASS_COLOURS[3] not in found


def test_a_histogram_takes_samples_of_different_length() -> None:
    png = histogram({"normal": [0.1, 0.2, 0.2], "defect": [0.9]}, x_label="score")

    assert Image.open(BytesIO(png)).size[0] == 614  # 6.4 inches at 96 dots
