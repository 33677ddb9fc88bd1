"""The tab Explore, in a real browser, over models whose answers can be computed on paper."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Request, expect

from tests.conftest import DATA
from tests.service.page.browser import grey, in_browser, set_slider, until_grey
from tests.service.page.conftest import OpenPage
from tests.service.slowmodel import service_process
from tests.service.toymodels import LATENT_DIM, publish_generator, publish_map, publish_toy


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
    for version in directory.glob("*/1"):
        (version / "README.md").write_text(f"# {version.parent.name}, with <b>all</b> its figures\n")
        (version / "preview.png").write_bytes((DATA / "digit.png").read_bytes())
    with service_process(directory) as process:
        yield f"{process.url}/#explore"


@in_browser
def test_a_sample_digit_is_denoised_rebuilt_and_judged_from_the_start(open_page: OpenPage, url: str) -> None:
    page = open_page(url)

    expect(page.locator("#denoised .said")).to_have_text(re.compile(r"^PSNR \d+\.\d dB, by toy/1$"))
    expect(page.locator("#rebuilt .said")).to_have_text("From 4 numbers instead of 16, by toy/1")
    expect(page.locator("#judged .said")).to_have_text(
        re.compile(r"^(Normal|Unusual)\. Higher than .* good pictures? it was checked against\. Score .*, by toy/1\.")
    )
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
    page.get_by_role("button", name="Path between the last two").click()
    page.wait_for_function("() => document.getElementById('way-picture').naturalWidth === 4")
    page.get_by_role("button", name=re.compile("^Back to place 1")).click()
    expect(page.locator("#map-place")).to_contain_text("At 0.50, 0.50")


@in_browser
def test_the_way_can_be_stopped_and_stands_still_for_who_wants_no_motion(open_page: OpenPage, url: str) -> None:
    page = open_page(url, reduced_motion="reduce")
    expect(page.locator("#map-place")).to_contain_text("At 0.50, 0.50")
    page.locator("#chart").press("Enter")
    page.locator("#chart").press("Enter")

    page.get_by_role("button", name="Path between the last two").click()
    page.wait_for_function("() => document.getElementById('way-picture').naturalWidth === 9 * 4 + 8 * 2")
    page.get_by_role("button", name="Stop").click()

    expect(page.locator("#way-picture")).to_be_hidden()
    expect(page.locator("#way")).to_have_text("Path between the last two")


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
    expect(page.locator("#turn-what")).to_contain_text("one principal direction of the 4 latents of prior")
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
        page = open_page(f"{process.url}/#explore", refuses=True)
        page.locator("#draw form").get_by_role("button", name="Draw", exact=True).click()

        expect(page.locator("#draw .problem")).to_have_text(
            "Too many images: 10 images were requested, the limit is 5 (setting max_images)"
        )


@in_browser
def test_a_part_that_no_model_offers_says_so(open_page: OpenPage, tmp_path: Path) -> None:
    publish_toy(tmp_path, tasks=["denoise"])
    with service_process(tmp_path) as process:
        page = open_page(f"{process.url}/#explore", refuses=True)  # the toy has no preview

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
def test_the_way_between_two_images_is_drawn_at_once_and_again_for_another_end(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#between .said")).to_have_text(
        "9 steps along a straight line between the two latents, by toy/1."
    )
    assert page.locator("#between img").evaluate("img => img.naturalWidth") == 9 * 4 + 8 * 2
    before = page.locator("#between img").get_attribute("src")

    page.get_by_role("button", name="Clear").click()
    page.locator("#second-take").click()

    expect(page.locator("#between img")).not_to_have_attribute("src", before or "")
    until_grey(page, "#second-end", 0.5, 0.5, 0)


@in_browser
def test_every_live_model_shows_its_picture_and_its_card(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    models = page.locator("#model-list > li")
    expect(models.locator("h4")).to_have_text(["map/1", "prior/1", "toy/1"])
    assert models.last.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") == 28

    models.last.get_by_text("Card", exact=True).click()

    expect(models.last.locator("pre")).to_have_text("# toy, with <b>all</b> its figures\n")


@in_browser
def test_a_photograph_is_not_judged_by_a_model_of_digits_without_a_warning(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#judged .said")).not_to_be_empty()

    page.locator("#file").set_input_files(DATA / "hazelnut.jpg")

    expect(page.locator("#judged .said")).to_contain_text(
        "This result is unreliable: it was trained on pictures of 4x4 pixels, and this one has 192x192."
    )
