"""Takes the README's picture of the page at `/` of a running service: `python docs/images/page.py http://127.0.0.1:8000`."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
VIEW = {"width": 1120, "height": 690}


def main(url: str) -> None:
    """Waits until everything has been answered, and keeps what is seen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a dictionary will do
        page.goto(url, wait_until="networkidle")
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            picture.convert("RGB").save(HERE / "page.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
