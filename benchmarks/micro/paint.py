"""Time to first paint of the tabs of the page at `/`, in Chromium on this machine.

    python -m benchmarks.micro paint

A median over loads, each in a new browser context, so that nothing is cached. Needs `chromium`, as Debian has it.
"""

import shutil
import statistics
from collections.abc import Sequence

from playwright.sync_api import Browser, sync_playwright

from benchmarks.commands import BenchmarkError
from benchmarks.micro.case import parser_of
from benchmarks.page import table
from benchmarks.service import Service

TABS = ("photo", "parts", "explore")
FIRST_PAINT_MS = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SCRIPT_BYTES = """performance.getEntriesByType('resource').filter(one => one.name.includes('.js'))
    .reduce((sum, one) => sum + one.encodedBodySize, 0)"""


def measure(words: Sequence[str]) -> str:
    """Load every tab, and lay out a row for each."""
    parser = parser_of("paint", __doc__)
    parser.add_argument("--loads", type=int, default=9, metavar="N", help="per tab; the median counts; default 9")
    loads = parser.parse_args(words).loads
    if (chromium := shutil.which("chromium")) is None:
        raise BenchmarkError("there is no chromium; install it, as `apt-get install chromium` does on Debian")
    with Service() as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        rows = [row_of(browser, f"http://127.0.0.1:{service.port}", tab, loads) for tab in TABS]
        browser.close()
    return table(["tab", "first contentful paint", "slowest", "script, as sent"], rows)


def row_of(browser: Browser, url: str, tab: str, loads: int) -> list[str]:
    """Load one tab several times; return its row."""
    paints, sizes = [], []
    for _ in range(loads):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/#{tab}", wait_until="networkidle")
        page.wait_for_function(f"{FIRST_PAINT_MS} > 0")
        paints.append(float(page.evaluate(FIRST_PAINT_MS)))
        sizes.append(int(page.evaluate(SCRIPT_BYTES)))
        context.close()
    return [tab, f"{statistics.median(paints):.0f} ms", f"{max(paints):.0f} ms", f"{max(sizes) / 1024:.0f} KiB"]
