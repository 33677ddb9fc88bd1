"""Takes the pictures of the page at `/` of a running service: `python docs/images/page.py http://127.0.0.1:8000`."""

import io
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import FilePayload, Page, sync_playwright

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "tests" / "data"
VIEW = {"width": 1120, "height": 1200}
NOISE = 25  # standard deviation, 0-255 units


def main(url: str) -> None:
    """Bring each tab to a result, and keep what is seen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, take in {"photo": photo, "parts": parts, "explore": explore}.items():
            page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a dictionary will do
            page.goto(f"{url}/#{name}", wait_until="networkidle")
            take(page)
            keep(page, name)
            page.close()
        browser.close()


def photo(page: Page) -> None:
    """Clean a picture that noise was added to."""
    with Image.open(DATA / "hazelnut.jpg") as picture:
        clean = np.asarray(picture.convert("RGB")).astype(np.float32)
    noisy = clean + np.random.default_rng(0).normal(0, NOISE, clean.shape)
    page.locator("#photo-files").set_input_files(
        [picture_file("hazelnut.png", np.clip(noisy, 0, 255).astype(np.uint8))]
    )
    page.get_by_text("Denoised by").wait_for()


def parts(page: Page) -> None:
    """Judge hazelnuts: one as it is, and copies with spots of two sizes."""
    with Image.open(DATA / "hazelnut.jpg") as picture:
        good = np.asarray(picture.convert("RGB"))
    files = [picture_file("good.png", good)]
    for name, (top, left, side) in {"spot.png": (90, 80, 12), "large spot.png": (70, 90, 26)}.items():
        spoilt = good.copy()
        spoilt[top : top + side, left : left + side] = (60, 30, 120)
        files.append(picture_file(name, spoilt))
    page.locator("#part-files").set_input_files(files)
    page.locator("#part-detail .heat").wait_for()


def picture_file(name: str, values: NDArray[np.uint8]) -> FilePayload:
    """Return a PNG as a browser's file input takes it."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def explore(page: Page) -> None:
    """Wait until everything has been answered."""
    page.get_by_text("From 32 numbers").wait_for()


def keep(page: Page, name: str) -> None:
    """Save what is seen as the picture of that name."""
    page.wait_for_timeout(1000)  # pictures are decoded after they have arrived
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(HERE / f"page-{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
