"""Takes the README's picture of the page at `/` of a running service: `python docs/images/page.py http://127.0.0.1:8000`."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
VIEW = {"width": 1120, "height": 1400}
PLACE = (0.22, 0.33)  # on the map


def main(url: str) -> None:
    """Waits until everything has been answered, stands somewhere on the map, and keeps what is seen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a dictionary will do
        page.goto(url, wait_until="networkidle")
        chart = page.locator("#chart")
        box = chart.bounding_box()
        if box is not None:
            chart.hover(position={"x": PLACE[0] * box["width"], "y": PLACE[1] * box["height"]})
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(1000)  # what is said of the place comes when the hand rests
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            picture.convert("RGB").save(HERE / "page.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
