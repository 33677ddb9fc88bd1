"""Which browser the tests of the page use, and what can be read off a page."""

import shutil

import pytest
from playwright.sync_api import Locator, Page

# The first has no window to draw: a page takes 0.3 CPU-seconds there, and 0.8 in the others.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a camera that shows a test pattern
]
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; `apt-get install chromium-headless-shell` brings one"
)


def grey(canvas: Locator, x: float, y: float) -> int:
    """The red of a canvas at a part of its width and height."""
    found: int = canvas.evaluate(
        "(c, [x, y]) => c.getContext('2d').getImageData(Math.floor(x * c.width), Math.floor(y * c.height), 1, 1)"
        ".data[0]",
        [x, y],
    )
    return found


def until_grey(page: Page, selector: str, x: float, y: float, level: int, *, tolerance: int = 1) -> None:
    page.wait_for_function(
        "([s, x, y, level, tolerance]) => { const c = document.querySelector(s); return Math.abs(c.getContext('2d')"
        ".getImageData(Math.floor(x * c.width), Math.floor(y * c.height), 1, 1).data[0] - level) <= tolerance; }",
        arg=[selector, x, y, level, tolerance],
    )


def set_slider(slider: Locator, value: float) -> None:
    slider.evaluate("(s, value) => { s.value = value; s.dispatchEvent(new Event('input')); }", value)
