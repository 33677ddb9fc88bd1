"""The help pages in a browser: they open where an error leads, follow the reader's colours, and break no policy."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from service.api import help_files
from tests.service.page.browser import in_browser
from tests.service.page.conftest import OpenPage
from tests.service.slowmodel import ROOT, service_process
from tests.service.toymodels import publish_toy

pytestmark = in_browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the pages of this checkout, which are built if there are none."""
    if not help_files.FOLDER.is_dir():
        subprocess.run([sys.executable, str(ROOT / "docs" / "build_site.py")], check=True, capture_output=True)
    directory: Path = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    with service_process(directory) as process:
        yield process.url


def test_the_type_of_an_error_opens_its_section(open_page: OpenPage, url: str) -> None:
    page = open_page(f"{url}/problems/queue-full")

    assert page.url == f"{url}/help/errors.html#queue-full"
    assert page.locator("#queue-full").is_visible()


def test_pages_are_dark_where_the_reader_wants_it(open_page: OpenPage, url: str) -> None:
    page = open_page(f"{url}/help/", color_scheme="dark")

    page.wait_for_function("document.body.getAttribute('data-md-color-scheme') === 'slate'")


def test_search_opens_once_its_index_has_come_and_finds_a_page(open_page: OpenPage, url: str) -> None:
    page = open_page(f"{url}/help/")
    held: list[Route] = []
    page.route("**/search.json", lambda route: held.append(route))  # noqa: PLW0108  Playwright takes no builtin
    with page.expect_request("**/search.json"):
        page.reload()
    page.locator(".md-search__button").click()
    box = page.get_by_role("combobox", name="Search")
    expect(box).to_have_count(0)  # what is typed before the index is there would be lost

    held[0].continue_()
    box.fill("drain")  # waits for the box

    expect(page.get_by_role("option").first).to_contain_text("drain", ignore_case=True)
