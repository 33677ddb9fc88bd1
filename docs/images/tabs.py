"""Record each tab of the page at `/` as a short GIF: `python docs/images/tabs.py http://127.0.0.1:8000`.

It does what `page.py` does for the pictures, and continues from there. The answers are those of the running service.
"""

import io
import shutil
import sys
from collections.abc import Callable, Iterator

from page import HERE, explore, parts, photo
from PIL import Image
from playwright.sync_api import Page, sync_playwright

VIEW = {"width": 1000, "height": 720}
SHOWN = (800, 576)  # pixels of a frame
COLOURS = 64
MOST_BYTES = 1_000_000


def record_photo(page: Page) -> Iterator[int]:
    """Clean a noisy picture, then move the divider. Yields how many milliseconds each state is shown."""
    yield 1200
    photo(page)
    page.wait_for_timeout(1000)
    slider = page.locator("#photo input[type=range]:visible").last
    for percent in (50, 30, 10, 30, 50, 70, 90, 70, 50):
        slider.evaluate("(s, p) => { s.value = s.max * p / 100; s.dispatchEvent(new Event('input')); }", percent)
        page.wait_for_timeout(200)
        yield 500


def record_parts(page: Page) -> Iterator[int]:
    """Judge three parts, and look at each."""
    yield 1200
    parts(page)
    page.wait_for_timeout(1000)
    yield 2500
    page.mouse.wheel(0, 500)
    page.wait_for_timeout(600)
    yield 2500


def record_explore(page: Page) -> Iterator[int]:
    """Draw a stroke, and watch what the models make of it."""
    explore(page)
    page.wait_for_timeout(500)
    yield 1500
    box = page.locator("#explore canvas:visible").first.bounding_box()
    assert box is not None  # noqa: S101  it is visible
    corners = [
        (box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in ((0.25, 0.75), (0.5, 0.8), (0.8, 0.7))
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=5)
        page.wait_for_timeout(1200)
        yield 800
    page.mouse.up()
    page.wait_for_timeout(2000)
    yield 2500


TABS: dict[str, Callable[[Page], Iterator[int]]] = {
    "photo": record_photo, "parts": record_parts, "explore": record_explore,
}  # fmt: skip


def main(url: str) -> None:
    """Record all tabs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, act in TABS.items():
            page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a dictionary will do
            page.set_default_timeout(300_000)
            page.goto(f"{url}/#{name}", wait_until="networkidle")
            frames, durations = [], []
            for ms in act(page):
                with Image.open(io.BytesIO(page.screenshot())) as shot:
                    frames.append(
                        shot.convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS).quantize(COLOURS, dither=0)
                    )
                durations.append(ms)
            target = HERE / f"tab-{name}.gif"
            frames[0].save(target, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
            page.close()
            if target.stat().st_size > MOST_BYTES:
                sys.exit(f"{target} has {target.stat().st_size} bytes, the limit is {MOST_BYTES}")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
