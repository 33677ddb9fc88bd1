"""The page at `/`, in a real browser, over models whose answers can be computed on paper."""

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)
from starlette.testclient import TestClient

from tests.conftest import DATA, ROOT
from tests.service.conftest import MakeClient
from tests.service.slowmodel import service_process
from tests.service.toymodels import LATENT_DIM, publish_generator, publish_map, publish_toy

STATIC = ROOT / "service" / "static"
FILES = sorted(path.name for path in STATIC.iterdir() if path.suffix != ".md")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `apt-get install chromium` brings one")
OpenPage = Callable[..., Page]

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


def test_every_file_that_the_page_names_is_there(client: TestClient) -> None:
    text = "".join((STATIC / file).read_text() for file in FILES if file.endswith((".html", ".js")))
    named = set(re.findall(r'"explorer/([^"]+)"', text)) | set(re.findall(r'from "\./([^"]+)"', text))

    assert named | {"index.html"} == set(FILES)
    preloaded = set(re.findall(r'rel="modulepreload" href="explorer/([^"]+)"', client.get("/").text))
    assert preloaded == {file for file in FILES if file.endswith(".js")} - {"explorer.js"}
    for file in named:
        answer = client.get(f"/explorer/{file}")
        assert answer.status_code == 200
        again = client.get(f"/explorer/{file}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert client.get("/explorer/README.md").json()["code"] == "route-not-found"
    assert all(f"`{file}`" in (STATIC / "README.md").read_text() for file in FILES)


def test_the_page_itself_needs_no_key(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(api_keys=["a-key-of-sixteen-letters"])

    assert client.get("/").status_code == client.get("/explorer/explorer.js").status_code == 200
    assert client.get("/models").status_code == 401


# --- in a browser ---


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`toy` does four tasks by default, `map` has two latents, `prior` draws and names directions."""
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory, default_for=["denoise", "encode", "decode", "anomaly"])
    publish_map(directory, examples={"labels": ("a", "b", "b"), "latents": ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0))})
    directions = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0))
    latent = {"dim": LATENT_DIM, "mean": (0.0,) * LATENT_DIM, "std": (1.0,) * LATENT_DIM}
    publish_generator(
        directory, manifest_changes={"latent": latent | {"directions": directions, "spread": (0.5, 0.25)}}
    )
    with service_process(directory) as process:
        yield process.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens the page of a service. At the end nothing was complained of, and nobody else was asked."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_at(url: str, *, refuses: bool = False, **options: Any) -> Page:  # noqa: ANN401  whatever Playwright takes
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def on_request(request: Request) -> None:
            if not request.url.startswith(("blob:", url)):
                complaints.append(request.url)

        def on_console(message: ConsoleMessage) -> None:
            is_refusal = refuses and "the server responded with a status of" in message.text
            if message.type in {"error", "warning"} and not is_refusal:
                complaints.append(message.text)

        page.on("request", on_request)
        page.on("console", on_console)
        page.goto(url)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []


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


@in_browser
def test_a_sample_digit_is_denoised_rebuilt_and_judged_from_the_start(open_page: OpenPage, url: str) -> None:
    page = open_page(url)

    expect(page.locator("#denoised .said")).to_have_text(re.compile(r"^PSNR \d+\.\d dB, by \w+$"))
    expect(page.locator("#rebuilt .said")).to_have_text("From 4 numbers instead of 16, by toy")
    expect(page.locator("#judged .said")).to_have_text(re.compile(r"^(Normal|Unusual): .* of 100 normal images"))
    for card in ("denoised", "rebuilt", "judged"):
        assert page.locator(f"#{card} img").evaluate("img => img.naturalWidth") > 0


@in_browser
def test_drawing_changes_what_the_models_see(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#denoised .said")).not_to_be_empty()
    set_slider(page.locator("#noise"), 0)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#noisy .said")).to_have_text("No noise")
    until_grey(page, "#noisy canvas", 0.5, 0.5, 0)
    before = page.locator("#denoised img").get_attribute("src")

    box = page.locator("#pad").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 140, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 220, steps=8)
    page.mouse.up()

    until_grey(page, "#noisy canvas", 0.5, 0.5, 255, tolerance=40)  # smoothed when it is made smaller
    assert grey(page.locator("#noisy canvas"), 0.05, 0.5) == 0
    expect(page.locator("#denoised img")).not_to_have_attribute("src", before or "")


@in_browser
def test_noise_is_the_same_until_other_noise_is_asked_for(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    picture = page.locator("#noisy canvas")
    expect(page.locator("#noisy .said")).to_have_text(re.compile("PSNR"))
    first = picture.evaluate("c => c.toDataURL()")

    set_slider(page.locator("#noise"), 40)
    expect(page.locator("#noise-value")).to_have_text("40")
    page.wait_for_function("before => document.querySelector('#noisy canvas').toDataURL() !== before", arg=first)
    set_slider(page.locator("#noise"), 100)
    page.wait_for_function("before => document.querySelector('#noisy canvas').toDataURL() === before", arg=first)
    page.get_by_role("button", name="Other noise").click()
    page.wait_for_function("before => document.querySelector('#noisy canvas').toDataURL() !== before", arg=first)


@in_browser
def test_a_picture_can_be_opened_and_what_is_none_is_said(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#denoised .said")).not_to_be_empty()

    page.locator("#file").set_input_files(DATA / "hazelnut.jpg")
    expect(page.locator("#noise-value")).to_have_text("25")  # less than what digits get
    page.wait_for_function("() => document.querySelector('#denoised img').naturalWidth === 192")
    page.locator("#file").set_input_files({"name": "notes.png", "mimeType": "image/png", "buffer": b"nonsense"})

    expect(page.locator("#pad-trouble")).to_contain_text("the browser cannot read notes.png")


@in_browser
def test_the_decoded_image_follows_the_pointer_over_the_map(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#map-place")).to_have_text("At 0.50, 0.50; the nearest test image is a a")
    chart = page.locator("#chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    in_flight, most = 0, 0
    lock = threading.Lock()

    def count(change: int, request: Request) -> None:
        nonlocal in_flight, most
        if "/decode" in request.url:
            with lock:
                in_flight += change
                most = max(most, in_flight)

    page.on("request", lambda request: count(1, request))
    page.on("requestfinished", lambda request: count(-1, request))
    page.on("requestfailed", lambda request: count(-1, request))

    for i in range(30):
        page.mouse.move(box["x"] + box["width"] * (0.1 + i / 50), box["y"] + box["height"] / 3)
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] * 3 / 4)

    # The bounds are those of the examples and 6 % more: -0.06 to 1.06. A quarter of the way is 0.22 on both axes.
    expect(page.locator("#map-place")).to_have_text("At 0.22, 0.22; the nearest test image is a a")
    until_grey(page, "#here", 0.5, 0.25, round(0.22 * 255))
    until_grey(page, "#here", 0.5, 0.75, round(0.22 * 255))
    assert most == 1


@in_browser
def test_the_map_can_be_walked_and_places_kept_with_the_keyboard(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#map-place")).to_contain_text("At 0.50, 0.50")
    page.locator("#chart").focus()

    page.keyboard.press("Enter")
    for _ in range(6):
        page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")

    expect(page.locator("#map-place")).to_have_text("At 0.52, 1.06; the nearest test image is a b")
    until_grey(page, "#here", 0.5, 0.75, 255)
    expect(page.locator("#kept li")).to_have_count(2)
    page.get_by_role("button", name="Way between the last two").click()
    page.wait_for_function("() => document.getElementById('way-picture').naturalWidth === 4")
    page.get_by_role("button", name=re.compile("^Back to place 1")).click()
    expect(page.locator("#map-place")).to_contain_text("At 0.50, 0.50")


@in_browser
def test_the_way_can_be_stopped_and_stands_still_for_who_wants_no_motion(open_page: OpenPage, url: str) -> None:
    page = open_page(url, reduced_motion="reduce")
    expect(page.locator("#map-place")).to_contain_text("At 0.50, 0.50")
    page.locator("#chart").press("Enter")
    page.locator("#chart").press("Enter")

    page.get_by_role("button", name="Way between the last two").click()
    page.wait_for_function("() => document.getElementById('way-picture').naturalWidth === 9 * 4 + 8 * 2")
    page.get_by_role("button", name="Stop").click()

    expect(page.locator("#way-picture")).to_be_hidden()
    expect(page.locator("#way")).to_have_text("Way between the last two")


@in_browser
def test_the_map_has_a_legend_and_a_table(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    legend = page.get_by_role("group", name="Which test images are shown").get_by_role("button")
    expect(legend).to_have_text(["a", "b"])
    expect(legend.first).to_have_attribute("aria-pressed", "true")

    legend.first.press("Enter")

    expect(legend.first).to_have_attribute("aria-pressed", "false")
    page.get_by_text("The map as a table").click()
    expect(page.get_by_role("row")).to_have_text(
        ["LabelTest imagesFirst latentSecond latent", "a10.00 ± 0.000.00 ± 0.00", "b20.50 ± 0.501.00 ± 0.00"]
    )


@in_browser
def test_a_slider_turns_a_principal_direction(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    page.locator("#turn select").select_option("prior")
    slider = page.get_by_label("Direction 1")
    expect(page.locator("#turn-what")).to_contain_text("one principal direction of its 4 latents")
    expect(page.locator(".slider:visible")).to_have_count(2)

    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")

    expect(page.locator(".slider output").first).to_have_text("1.00")
    until_grey(page, "#turned", 0.1, 0.1, 128)  # one deviation of 0.5 along the first latent
    until_grey(page, "#turned", 0.9, 0.1, 0)
    page.get_by_role("button", name="To the mean").click()
    until_grey(page, "#turned", 0.1, 0.1, 0)
    page.get_by_role("button", name="At random").click()
    expect(page.locator(".slider output").first).not_to_have_text("0.00")


@in_browser
def test_the_sliders_start_from_the_image(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#rebuilt .said")).not_to_be_empty()
    page.get_by_role("button", name="Sample 0").click()
    page.get_by_role("button", name="From your image").click()

    expect(page.locator(".slider output").first).not_to_have_text("0.00")
    assert grey(page.locator("#turned"), 0.1, 0.1) > 0


@in_browser
def test_a_model_without_directions_has_a_slider_per_latent(open_page: OpenPage, url: str) -> None:
    page = open_page(url)

    expect(page.locator("#turn-what")).to_contain_text("one of the 4 latents of toy")
    expect(page.get_by_label("Latent 4")).to_be_visible()


@in_browser
def test_images_are_drawn_and_drawn_again_from_their_seed(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    form = page.locator("#draw form")
    form.get_by_label("What").select_option("dark")
    form.get_by_label("How many").fill("3")
    form.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("#drawn li")).to_have_count(3)
    first = page.locator("#drawn canvas").first.evaluate("c => c.toDataURL()")

    form.get_by_role("button", name="Keep this seed").click()
    form.get_by_role("button", name="Draw", exact=True).click()
    expect(form.locator(".said")).to_contain_text(f"Seed {form.get_by_label('Seed').input_value()} draws")
    assert page.locator("#drawn canvas").first.evaluate("c => c.toDataURL()") == first
    set_slider(form.get_by_label("Temperature"), 0)
    form.get_by_role("button", name="Draw", exact=True).click()
    until_grey(page, "#drawn canvas", 0.5, 0.5, 63)
    page.get_by_role("button", name="Look at drawn image 2").click()

    set_slider(page.locator("#noise"), 0)
    until_grey(page, "#noisy canvas", 0.5, 0.5, 63)


@in_browser
def test_errors_appear_as_the_api_says_them(open_page: OpenPage, tmp_path: Path) -> None:
    publish_generator(tmp_path)
    with service_process(tmp_path, "--max-images", "5") as process:
        page = open_page(process.url, refuses=True)
        page.locator("#draw form").get_by_role("button", name="Draw", exact=True).click()

        expect(page.locator("#draw .problem")).to_have_text(
            "Too many images: 10 images are asked for, the limit is 5 (setting max_images)"
        )


@in_browser
def test_a_part_that_no_model_offers_says_so(open_page: OpenPage, tmp_path: Path) -> None:
    publish_toy(tmp_path, tasks=["denoise"])
    with service_process(tmp_path) as process:
        page = open_page(process.url)

        expect(page.locator("#denoised .said")).to_contain_text("by toy")
        expect(page.locator("#rebuilt .said")).to_have_text("No live model encodes and decodes. Live models: toy.")
        expect(page.locator("#judged .said")).to_have_text("No live model finds anomalies. Live models: toy.")
        expect(page.locator("#map .lack")).to_contain_text("No live model decodes two latents")
        expect(page.locator("#turn .lack")).to_contain_text("No live model decodes three or more latents")
        expect(page.locator("#draw .lack")).to_have_text("No live model can generate. Live models: toy.")
        expect(page.locator("#chart, #sliders, #draw form")).to_have_count(3)
        for part in ("#chart", "#sliders", "#draw form"):
            expect(page.locator(part)).to_be_hidden()


@in_browser
def test_a_page_that_was_opened_before_any_model_is_live_comes_alive_by_itself(
    open_page: OpenPage, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    with service_process(tmp_path / "models", "--watch-interval-s", "0.2") as process:
        page = open_page(process.url)
        expect(page.locator("#trouble")).to_contain_text("No model is live yet")

        publish_toy(tmp_path / "models")

        expect(page.locator("#denoised .said")).to_contain_text("by toy", timeout=15_000)
        expect(page.locator("#trouble")).to_be_hidden()


@in_browser
def test_a_service_with_keys_is_asked_with_the_key_that_is_typed(open_page: OpenPage, tmp_path: Path) -> None:
    publish_toy(tmp_path)
    with service_process(tmp_path, "--api-keys", "a-key-of-sixteen-letters") as process:
        page = open_page(process.url, refuses=True)
        expect(page.locator("#key-why")).to_contain_text("this service wants an API key")

        page.get_by_label("API key").fill("a-wrong-key-of-letters")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#key-why")).to_contain_text("none of this service's keys")
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


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_and_every_text_stands_out(open_page: OpenPage, url: str, scheme: str) -> None:
    page = open_page(url, color_scheme=scheme)
    expect(page.locator("#judged .said")).not_to_be_empty()
    expect(page.locator("#samples button")).to_have_count(10)
    page.locator("#draw form").get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("#drawn li")).to_have_count(10)
    page.get_by_text("The map as a table").click()

    assert page.evaluate(_NAMELESS) == []
    assert page.evaluate(_PALE) == []  # WCAG 2.2, 1.4.3: contrast of 4.5
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@in_browser
def test_every_control_is_reached_with_the_tab_key(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#judged .said")).not_to_be_empty()
    expect(page.locator("#samples button")).to_have_count(10)
    wanted = page.evaluate(
        "() => { window.left = new Set([...document.querySelectorAll('button, input, select, a, #chart, summary')]"
        ".filter((e) => e.checkVisibility() && !e.disabled)); return window.left.size; }"
    )

    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        page.evaluate("() => window.left.delete(document.activeElement)")

    assert page.evaluate("() => [...window.left].map((e) => e.outerHTML)") == []


@in_browser
def test_a_phone_shows_all_of_it_without_scrolling_sideways(open_page: OpenPage, url: str) -> None:
    page = open_page(url, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    expect(page.locator("#judged .said")).not_to_be_empty()

    assert page.evaluate("() => document.documentElement.scrollWidth") == 360
    small = page.evaluate(
        "() => [...document.querySelectorAll('button, select')].filter((e) => e.checkVisibility())"
        ".filter((e) => e.getBoundingClientRect().height < 24).map((e) => e.outerHTML)"
    )
    assert small == []  # WCAG 2.2, 2.5.8: targets of 24 pixels
    chart = page.locator("#chart")
    chart.scroll_into_view_if_needed()
    chart.tap()
    expect(page.locator("#kept li")).to_have_count(1)
