"""The help pages: complete, whole, from nowhere else, and served as they should be."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from starlette.testclient import TestClient

from service.api import help_files
from service.api.reference import PAGES
from service.errors import PROBLEMS

ROOT = Path(__file__).parents[2]
ERRORS = "http://testserver/help/errors.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages out of this checkout."""
    folder = tmp_path_factory.mktemp("site") / "help"
    command = [sys.executable, str(ROOT / "docs" / "build_site.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return folder


@pytest.fixture
def helping(client: TestClient, site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The service with these pages."""
    monkeypatch.setattr(help_files, "FOLDER", site)
    help_files.help_files.cache_clear()
    yield client
    help_files.help_files.cache_clear()


class Addresses(HTMLParser):
    """What a page loads, what it links to, and the anchors it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.anchors.add(value)
            elif name in {"src", "href", "srcset"} and value:
                (self.links if tag == "a" else self.loads).append(value)


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loads = Addresses(page).loads
        assert loads
        assert [load for load in loads if urlsplit(load).scheme not in {"", "data"} or load.startswith("//")] == [], (
            page
        )
    for style in site.rglob("*.css"):
        assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]*", style.read_text("utf-8")) == []


def test_every_link_and_anchor_of_the_pages_leads_somewhere(site: Path) -> None:
    pages = {page: Addresses(page) for page in site.rglob("*.html") if page.name != "404.html"}
    wrong = []
    for page, found in pages.items():
        for link in found.links + found.loads:
            if urlsplit(link).scheme:
                continue
            target = urlsplit(urljoin(page.as_uri(), link))
            file = Path(unquote(target.path))
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (target.fragment and unquote(target.fragment) not in pages[file].anchors):
                wrong.append(f"{page.relative_to(site)}: {link}")
    assert wrong == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    linked = {(site / link).resolve() for link in Addresses(site / "index.html").links if not urlsplit(link).scheme}

    pages = {page for page in site.rglob("*.html") if page.name != "404.html"}
    assert [page.relative_to(site) for page in pages - linked] == [
        Path("clients/python/index.html")
    ]  # client.md says more


def test_the_type_of_every_error_opens_its_place_on_the_help_pages(helping: TestClient, site: Path) -> None:
    anchors = Addresses(site / "errors.html").anchors

    for code in PROBLEMS:
        found = helping.get(f"/problems/{code}", headers={"Accept": "text/html"}, follow_redirects=False)
        target = urljoin(f"http://testserver/below/a/prefix/problems/{code}", found.headers["location"])
        assert (found.status_code, target) == (307, f"http://testserver/below/a/prefix/help/errors.html#{code}")
        assert code in anchors


def test_a_program_still_gets_the_explanation_of_an_error_as_text(helping: TestClient) -> None:
    found = helping.get("/problems/queue-full")

    assert found.headers["content-type"].startswith("text/plain")
    assert found.text.startswith("The queue is full (503 queue-full)")


def test_a_service_mounted_below_a_path_says_so_in_the_type_of_its_errors(client: TestClient) -> None:
    below = TestClient(client.app, root_path="/ml")

    found = below.get("/ml/nowhere")

    assert found.json()["type"] == "/ml/problems/route-not-found"
    assert int(found.headers["content-length"]) == len(found.content)


@pytest.mark.parametrize("name", PAGES)
def test_generated_reference_pages_are_those_of_the_code(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == PAGES[name](), "python -m service.api.reference"


def test_every_field_of_the_manifest_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", PAGES["manifest.md"](), re.MULTILINE)

    assert len(rows) > 80
    assert [name for name, meaning in rows if not meaning.endswith(".")] == []


def test_a_page_is_sent_once(helping: TestClient) -> None:
    first = helping.get("/help/errors.html")
    again = helping.get("/help/errors.html", headers={"If-None-Match": first.headers["etag"]})

    assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (again.status_code, again.content) == (304, b"")
    assert helping.head("/help/errors.html").headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("path", ["/help/nothing.html", "/help/a/b/nothing.html", "/help/..%2f__init__.py", "/help/x/"])
def test_a_page_that_is_missing_is_a_page_whose_links_work(helping: TestClient, path: str) -> None:
    found = helping.get(path)

    assert (found.status_code, found.headers["content-type"]) == (404, "text/html; charset=utf-8")
    links = re.findall(r'(?:href|src)="([^"#]+)"', found.text)
    targets = {urlsplit(urljoin(f"http://testserver{path}", link)).path for link in links}
    assert {"/help/errors.html", "/help/api.html"} <= targets
    assert all(target.startswith("/help/") for target in targets)


def test_pages_run_no_script_but_their_own(helping: TestClient) -> None:
    for path in ("/help/", "/help/errors.html", "/help/missing.html"):
        policy = helping.get(path).headers["content-security-policy"]
        scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
        assert "unsafe" not in scripts
        assert scripts.count("'sha256-") >= 1


def test_help_leads_to_its_first_page_below_any_prefix(helping: TestClient) -> None:
    found = helping.get("/help", follow_redirects=False)

    assert (found.status_code, found.headers["location"]) == (307, "help/")
    assert "Hourglass" in helping.get("/help/").text


def test_a_checkout_without_the_pages_says_how_to_build_them(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(help_files, "FOLDER", tmp_path / "help")
    help_files.help_files.cache_clear()

    found = client.get("/help/")
    help_files.help_files.cache_clear()

    assert (found.status_code, found.json()["code"]) == (404, "route-not-found")
    assert "make docs" in found.json()["detail"]
