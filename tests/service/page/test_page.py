"""The page as a whole: what it loads, which tab is shown, keys, and whether everybody can use it."""

import os
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

from service.api.docs_page import EXAMPLES_BY_PATH
from tests.conftest import DATA, ROOT
from tests.service.conftest import MakeClient
from tests.service.page.browser import in_browser
from tests.service.page.conftest import OpenPage
from tests.service.slowmodel import service_process
from tests.service.toymodels import publish_blur, publish_generator, publish_map, publish_toy

STATIC = ROOT / "service" / "static"
FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.*") if path.suffix != ".md")
MAX_SCRIPT_BYTES = 120 * 1024
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}

# --- without a browser ---


def test_the_page_may_load_nothing_from_elsewhere_and_run_nothing_inline(client: TestClient) -> None:
    page = client.get("/")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=)", page.text)
    for file in FILES:
        text = (STATIC / file).read_text("utf-8", "replace").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file


def test_the_api_page_runs_nothing_inline_and_leads_home(client: TestClient) -> None:
    page = client.get("/docs")

    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; " in policy
    assert not re.search(r"<script(?! src=)|\son\w+=", page.text)
    assert '<a href=".">' in page.text


def test_every_file_of_the_page_is_asked_for_served_and_described(client: TestClient) -> None:
    named = {"index.html", "docs/docs.html"}
    for file in FILES:
        if file.endswith((".html", ".js", ".css")):
            text, folder = (STATIC / file).read_text(), Path(file).parent
            named |= set(re.findall(r'"page/([^"]+)"', text))
    named |= {f"docs/{name}" for names in EXAMPLES_BY_PATH.values() for name in names}
    for file in FILES:
        if file.endswith(".js"):
            text, folder = (STATIC / file).read_text(), Path(file).parent
            named |= {
                Path(os.path.normpath(folder / found)).as_posix()
                for found in re.findall(r'(?:from|import\() ?"(\.[^"]+)"', text)
            }

    assert named == set(FILES)
    preloaded = set(re.findall(r'rel="modulepreload" href="page/([^"]+)"', client.get("/").text))
    assert preloaded == {
        f"common/{file}.js" for file in re.findall(r'import .*"./common/(\w+).js"', (STATIC / "page.js").read_text())
    }
    for file in named:
        answer = client.get(f"/page/{file}")
        assert answer.status_code == 200
        again = client.get(f"/page/{file}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    described = (STATIC / "README.md").read_text()
    assert [file for file in FILES if f"`{file}`" not in described] == []


@pytest.mark.parametrize("path", ["README.md", "..%2Fapp.py", "../app.py", "common", "common/", "no.js"])
def test_nothing_but_the_files_of_the_page_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/page/{path}").json()["code"] == "route-not-found"


def test_all_scripts_together_stay_small(client: TestClient) -> None:
    scripts = [file for file in FILES if file.endswith(".js")]
    code = "".join((STATIC / file).read_text() for file in scripts)
    code = re.sub(r"/\*\*.*?\*/|(?<=\s)//[^\n]*|\n\s+", "", code, flags=re.S)  # without comments and indentation

    answers = [client.get(f"/page/{file}", headers={"Accept-Encoding": "gzip"}) for file in scripts]

    assert len(code.encode()) < MAX_SCRIPT_BYTES
    assert sum(int(answer.headers["content-length"]) for answer in answers) < MAX_SCRIPT_BYTES * 0.6
    assert all(answer.text == (STATIC / file).read_text() for file, answer in zip(scripts, answers, strict=True))


def test_a_client_that_asks_for_no_coding_gets_none(client: TestClient) -> None:
    plain = client.get("/page/page.js", headers={"Accept-Encoding": "identity"})

    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept-Encoding"
    assert plain.content == (STATIC / "page.js").read_bytes()


def test_the_page_itself_needs_no_key(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(api_keys=["a-key-of-sixteen-letters"])

    assert client.get("/").status_code == client.get("/page/page.js").status_code == 200
    assert client.get("/models").status_code == 401


# --- in a browser ---


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Models for every tab."""
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory, default_for=["encode", "decode", "anomaly"])
    publish_blur(directory, default_for=["denoise"])
    publish_blur(directory, name="twice", scale=2, default_for=["enhance"])
    publish_map(directory, examples={"labels": ("a", "b", "b"), "latents": ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0))})
    publish_generator(directory)
    for version in directory.glob("*/1"):
        (version / "README.md").write_text("# A toy\n")
        (version / "preview.png").write_bytes((DATA / "digit.png").read_bytes())
    with service_process(directory) as process:
        yield process.url


@in_browser
def test_the_address_says_which_tab_is_shown(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    tabs = page.locator("#tabs a")
    expect(page.locator(".tab:visible")).to_have_id("photo")

    for name in ("Parts", "Explore", "Photo"):
        page.get_by_role("link", name=name, exact=True).first.click()
        expect(page.locator(".tab:visible")).to_have_id(name.lower())
        expect(page.locator("#tabs a[aria-current]")).to_have_text(name)
        expect(page).to_have_title(f"Hourglass: {name}")
    assert tabs.count() == 3
    page.go_back()
    expect(page.locator(".tab:visible")).to_have_id("explore")
    page.goto(f"{url}/#map")
    expect(page.locator(".tab:visible")).to_have_id("explore")
    expect(page.locator("#map-place")).to_contain_text("At 0.50, 0.50")


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_api_page_follows_the_scheme_and_asks_a_live_model(open_page: OpenPage, url: str, scheme: str) -> None:
    page = open_page(f"{url}/docs", color_scheme=scheme)
    page.locator("#operations-images-denoise").get_by_role("button").first.click()

    names = page.locator("#operations-images-denoise select").filter(has_text="blur").first.locator("option")
    assert "blur" in names.all_text_contents()
    red = page.locator("body").evaluate("body => getComputedStyle(document.documentElement).backgroundColor")
    is_dark = page.locator("html").evaluate("html => html.classList.contains('dark-mode')")
    assert is_dark == (scheme == "dark"), red
    page.get_by_role("link", name="Hourglass", exact=True).click()
    expect(page.locator(".tab:visible")).to_have_id("photo")


@in_browser
def test_a_tab_loads_its_scripts_when_it_is_first_opened(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#photo-settings select[name=denoiser] option")).to_have_count(1)

    loaded = page.evaluate("() => performance.getEntriesByType('resource').map((e) => new URL(e.name).pathname)")
    assert "/page/photo/photo.js" in loaded
    assert not [path for path in loaded if path.startswith("/page/explore/") and path.endswith(".js")]


@in_browser
def test_a_page_that_was_opened_before_any_model_is_live_comes_alive_by_itself(
    open_page: OpenPage, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    with service_process(tmp_path / "models", "--watch-interval-s", "0.2") as process:
        page = open_page(f"{process.url}/#explore", refuses=True)  # the toy has no preview
        expect(page.locator("#trouble")).to_contain_text("No model is live yet")

        publish_toy(tmp_path / "models")

        expect(page.locator("#denoised .said")).to_contain_text("by toy")
        expect(page.locator("#trouble")).to_be_hidden()


@in_browser
def test_a_service_with_keys_is_asked_with_the_key_that_is_typed(open_page: OpenPage, tmp_path: Path) -> None:
    publish_toy(tmp_path)
    with service_process(tmp_path, "--api-keys", "a-key-of-sixteen-letters") as process:
        page = open_page(f"{process.url}/#explore", refuses=True)
        expect(page.locator("#key-why")).to_contain_text("this service requires an API key")

        page.get_by_label("API key").fill("a-wrong-key-of-letters")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#key-why")).to_contain_text("the API key is not valid here")
        page.get_by_label("API key").fill("a-key-of-sixteen-letters")
        page.keyboard.press("Enter")

        expect(page.locator("#denoised .said")).to_contain_text("by toy")
        expect(page.locator("#key")).to_be_hidden()


# --- for everybody ---

_NAMELESS = """() => [...document.querySelectorAll('button, input, select, a, [role=img], [role=application], img')]
    .filter((e) => e.checkVisibility())
    .filter((e) => !(e.ariaLabel || [...(e.labels ?? [])].some((l) => l.textContent.trim()) || e.textContent.trim()
        || e.hasAttribute('alt')))
    .map((e) => e.outerHTML)"""

_PALE = """() => {
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if ((colour[3] ?? 1) === 1) return colour;
        }
        return [255, 255, 255];
    };
    const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    return [...document.querySelectorAll('body *')]
        .filter((e) => e.checkVisibility() && hasText(e) && !e.disabled && e.tagName !== 'NOSCRIPT')
        .map((e) => {
            const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.textContent.trim().slice(0, 40)];
        })
        .filter(([ratio]) => ratio < 4.5);
}"""


TABS = ["photo", "parts", "explore"]


def open_tab(page: Page, tab: str) -> None:
    """Brings a tab into a state with results."""
    if tab == "photo":
        page.locator("#photo-files").set_input_files([DATA / "hazelnut.jpg", DATA / "digit.png"])
        expect(page.locator("#shelf-title")).to_have_text("2 of 2 pictures done")
        return
    if tab == "parts":
        page.locator("#part-files").set_input_files([DATA / "digit.png", DATA / "digit_two.png"])
        page.get_by_text("toy/1", exact=True).last.click()
        expect(page.locator("#part-progress")).to_have_text("2 of 2 pictures judged")
        expect(page.locator("#part-detail .heat")).to_be_visible()
        return
    expect(page.locator("#judged .said")).not_to_be_empty()
    expect(page.locator("#samples button")).to_have_count(10)
    page.locator("#draw form").get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("#drawn li")).to_have_count(10)
    page.get_by_text("The map as a table").click()


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", TABS)
def test_everything_has_a_name_and_every_text_stands_out(open_page: OpenPage, url: str, tab: str, scheme: str) -> None:
    page = open_page(f"{url}/#{tab}", color_scheme=scheme)
    open_tab(page, tab)

    assert page.evaluate(_NAMELESS) == []
    assert page.evaluate(_PALE) == []  # WCAG 2.2, 1.4.3: contrast of 4.5
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("tab", TABS)
def test_axe_finds_no_violation(open_page: OpenPage, url: str, tab: str, view: dict[str, Any], scheme: str) -> None:
    page = open_page(f"{url}/#{tab}", color_scheme=scheme, **view)
    open_tab(page, tab)
    page.evaluate(AXE)

    found = page.evaluate("async () => (await axe.run()).violations.map((v) => [v.id, v.nodes.map((n) => n.html)])")

    assert found == []


@in_browser
@pytest.mark.parametrize("tab", TABS)
def test_every_control_is_reached_with_the_tab_key(open_page: OpenPage, url: str, tab: str) -> None:
    page = open_page(f"{url}/#{tab}")
    open_tab(page, tab)
    wanted = page.evaluate(
        "() => { window.left = new Set([...document.querySelectorAll("
        "'button, input, select, a, summary, [tabindex=\"0\"]')].filter((e) => e.checkVisibility() && !e.disabled)"
        ".filter((e) => e.type !== 'radio' || e.checked)); return window.left.size; }"  # one stop per group of radios
    )

    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        page.evaluate("() => window.left.delete(document.activeElement)")

    assert page.evaluate("() => [...window.left].map((e) => e.outerHTML)") == []


@in_browser
@pytest.mark.parametrize("tab", TABS)
def test_a_phone_shows_all_of_a_tab_without_scrolling_sideways(open_page: OpenPage, url: str, tab: str) -> None:
    page = open_page(f"{url}/#{tab}", **PHONE)
    open_tab(page, tab)

    assert page.evaluate("() => document.documentElement.scrollWidth") == 360
    small = page.evaluate(
        "() => [...document.querySelectorAll('button, select')].filter((e) => e.checkVisibility())"
        ".filter((e) => e.getBoundingClientRect().height < 24).map((e) => e.outerHTML)"
    )
    assert small == []  # WCAG 2.2, 2.5.8: targets of 24 pixels


@in_browser
def test_the_map_is_walked_with_a_finger(open_page: OpenPage, url: str) -> None:
    page = open_page(f"{url}/#map", **PHONE)
    expect(page.locator("#map-place")).to_contain_text("At 0.50, 0.50")
    chart = page.locator("#chart")
    chart.scroll_into_view_if_needed()

    chart.tap()

    expect(page.locator("#kept li")).to_have_count(1)
