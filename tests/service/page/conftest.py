"""A real browser for the tests of the page, and small helpers to look at it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.service.page.browser import CHROMIUM, FLAGS

OpenPage = Callable[..., Page]
TIMEOUT_MS = 60_000  # far more than a busy machine needs; only a failing test waits so long
ENDED = tuple(
    f"net::ERR_{name}" for name in ("CONNECTION_REFUSED", "CONNECTION_RESET", "EMPTY_RESPONSE", "SOCKET_NOT_CONNECTED")
)
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open the page of a service. At the end nothing was complained of, and nobody else was asked."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_at(url: str, *, refuses: bool = False, **options: Any) -> Page:  # noqa: ANN401  whatever Playwright takes
        origin = "/".join(url.split("/")[:3])
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def on_request(request: Request) -> None:
            if not request.url.startswith(("blob:", "data:", origin)):
                complaints.append(request.url)

        def on_console(message: ConsoleMessage) -> None:
            is_refusal = refuses and "the server responded with a status of" in message.text
            # A test may end its service while the page still asks: that says nothing of the page.
            is_after_the_end = any(name in message.text for name in ENDED)
            if message.type in {"error", "warning"} and not is_refusal and not is_after_the_end:
                complaints.append(message.text)

        page.on("request", on_request)
        page.on("console", on_console)
        page.goto(url)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []
