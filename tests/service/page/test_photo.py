"""The tab Photo, in a real browser, over a model that blurs and one that enlarges."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.service.files import pixels_of, png, save
from tests.service.page.browser import in_browser, set_slider
from tests.service.page.conftest import OpenPage
from tests.service.slowmodel import flat_png, publish_slow, service_process
from tests.service.toymodels import publish_blur, publish_toy

GREY = 100  # of the flat pictures: the blur keeps it, but for what sigma takes


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("models")
    publish_blur(directory, default_for=["denoise"])
    publish_blur(directory, name="twice", scale=2, default_for=["enhance"])
    publish_toy(directory, name="small", tasks=["denoise"])
    with service_process(directory) as process:
        yield process.url


def file(name: str, content: bytes, kind: str = "image/png") -> dict[str, str | bytes]:
    return {"name": name, "mimeType": kind, "buffer": content}


def open_files(page: Page, *files: dict[str, str | bytes]) -> None:
    page.locator("#photo-files").set_input_files(list(files))  # type: ignore[arg-type]  # dictionaries will do


def width_of(page: Page, side: str) -> int:
    width: int = page.locator(f"#compare .{side} img").evaluate("img => img.naturalWidth")
    return width


@in_browser
def test_a_photograph_comes_back_in_full_size_and_says_which_model_made_it(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    wide = png(np.full((8, 1500), GREY, np.uint8))

    open_files(page, file("wide.png", wide))

    expect(page.locator("#photo-said")).to_have_text(re.compile(r"^Denoised by blur/1, noise estimated as 0 of 255\. "))
    expect(page.locator("#compare .after img")).to_be_visible()
    assert (width_of(page, "before"), width_of(page, "after")) == (1500, 1500)
    expect(page.locator("select[name=denoiser] option")).to_have_text(["blur/1"])  # not one for 4x4 pixels


@in_browser
def test_a_16_bit_tiff_is_shown_and_keeps_all_its_bits(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    tiff = save(Image.fromarray(np.full((20, 30), GREY * 257 + 3, np.uint16)), "TIFF")

    open_files(page, file("deep.tif", tiff, "image/tiff"))

    expect(page.locator("#photo-said")).to_contain_text("Denoised by blur/1")
    expect(page.locator("#compare .after img")).to_be_visible()
    assert (width_of(page, "before"), width_of(page, "after")) == (30, 30)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "deep-denoised.tif"
    with Image.open(download.value.path()) as picture:
        assert np.asarray(picture)[10, 15] == GREY * 257 + 3


@in_browser
def test_noise_strength_and_thoroughness_reach_the_service(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    queries: list[str] = []
    page.on(
        "request", lambda request: queries.append(request.url.partition("?")[2]) if "/denoise" in request.url else None
    )
    open_files(page, file("a.png", flat_png(16, GREY)))
    expect(page.locator("#photo-said")).to_contain_text("Denoised")

    page.get_by_label("Estimate it").uncheck()
    set_slider(page.get_by_label("Noise, standard deviation"), 51)
    page.get_by_label("Noise, standard deviation").dispatch_event("change", {"bubbles": True})
    expect(page.locator("#photo-said")).to_contain_text("noise set to 50 of 255")  # the most that the model knows
    page.get_by_label("Thorough").check()

    expect(page.locator("#photo-said")).to_contain_text("noise set to 50 of 255, thorough")
    assert queries[0] == "model=blur"
    assert queries[-1] == "model=blur&sigma=50&thorough=true"


@in_browser
def test_both_enlarges_what_was_denoised(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    page.get_by_label("Both").check()

    open_files(page, file("a.png", flat_png(16, GREY)))

    expect(page.locator("#photo-said")).to_have_text(
        re.compile(r"^Denoised by blur/1, noise estimated as 0 of 255, then enlarged by twice/1\. ")
    )
    expect(page.locator("#compare .after img")).to_be_visible()
    assert (width_of(page, "before"), width_of(page, "after")) == (16, 32)
    sizes = page.evaluate(
        "() => ['before', 'after'].map((s) => document.querySelector(`#compare .${s} img`).style.width)"
    )
    assert sizes[0] == sizes[1]  # they lie on top of each other


@in_browser
def test_before_and_after_are_zoomed_and_moved_as_one(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    open_files(page, file("a.png", flat_png(1200, GREY)))
    expect(page.locator("#compare .after img")).to_be_visible()
    style = "s => { const i = document.querySelector(`#compare .${s} img`).style; return [i.width, i.transform]; }"
    fitted = page.evaluate(style, "after")

    page.get_by_role("button", name="100 %").click()
    page.locator("#compare").press("ArrowRight")

    zoomed = page.evaluate(style, "after")
    assert zoomed == page.evaluate(style, "before")
    assert zoomed[0] == "1200px" != fitted[0]
    set_slider(page.locator("#split"), 25)
    part = page.locator("#compare .after").evaluate(
        "l => parseFloat(l.style.clipPath.split(' ').pop()) / l.clientWidth"
    )
    assert part == pytest.approx(0.25, abs=0.01)
    page.locator("#compare").press("0")
    assert page.evaluate(style, "after") == fitted


@in_browser
def test_the_divider_is_dragged_with_the_pointer(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    open_files(page, file("a.png", flat_png(64, GREY)))
    expect(page.locator("#compare .divider")).to_be_visible()
    box = page.locator("#compare").bounding_box()
    assert box is not None

    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20, steps=4)
    page.mouse.up()

    assert float(page.locator("#split").input_value()) == pytest.approx(25, abs=1)


@in_browser
def test_a_result_never_stands_under_another_photograph(open_page: OpenPage, tmp_path: Path) -> None:
    publish_slow(tmp_path, sines=200)
    with service_process(tmp_path) as process:
        page = open_page(process.url)
        open_files(page, file("small.png", flat_png(16)))
        expect(page.locator("#compare .after img")).to_be_visible()

        open_files(page, file("large.png", flat_png(1500)))

        expect(page.locator("#photo-name")).to_have_text("large.png")
        expect(page.locator("#compare .after img")).to_be_hidden()
        assert page.locator("#compare .after img").get_attribute("src") is None
        expect(page.locator("#photo-download button:not([type])")).to_be_disabled()
        expect(page.locator("#photo-said")).to_have_text(re.compile("processing|next in the queue|tiles done"))
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#photo-said")).to_have_text("Cancelled")
        page.get_by_role("button", name=re.compile(r"^small\.png")).click()
        expect(page.locator("#compare .after img")).to_be_visible()
        assert width_of(page, "after") == 16
        page.get_by_role("button", name=re.compile(r"^large\.png")).click()
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#photo-said")).to_contain_text("Denoised by slow/1", timeout=300_000)


@in_browser
def test_a_large_photograph_says_how_many_tiles_are_done_and_leaves_no_job_behind(
    open_page: OpenPage, tmp_path: Path
) -> None:
    publish_slow(tmp_path, sines=100)
    with service_process(tmp_path) as process:
        page = open_page(process.url)
        page.evaluate(
            """() => { window.seen = []; const said = document.getElementById("photo-said");
            new MutationObserver(() => window.seen.push(said.textContent)).observe(said, { childList: true }); }"""
        )
        deleted: list[str] = []
        page.on("request", lambda r: deleted.append(r.url) if r.method == "DELETE" else None)

        open_files(page, file("large.png", flat_png(1500, GREY)))

        expect(page.locator("#photo-said")).to_contain_text("Denoised by slow/1", timeout=300_000)
        tiles = [found for text in page.evaluate("seen") if (found := re.search(r"(\d+) of (\d+) tiles done", text))]
        assert tiles
        assert all(0 <= int(found[1]) <= int(found[2]) for found in tiles)
        assert len({found[2] for found in tiles}) == 1
        assert width_of(page, "after") == 1500
        assert [url.rpartition("/")[0] for url in deleted] == [f"{process.url}/jobs"]


@in_browser
def test_other_settings_take_the_old_result_away(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    open_files(page, file("a.png", flat_png(16, GREY)))
    expect(page.locator("#photo-said")).to_contain_text("Denoised")
    before = page.locator("#compare .after img").get_attribute("src")

    page.get_by_label("Enlarge", exact=True).check()

    expect(page.locator("#photo-said")).to_contain_text("Enlarged by twice/1")
    assert page.locator("#compare .after img").get_attribute("src") != before


@in_browser
def test_several_are_downloaded_as_a_zip_in_the_chosen_format(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    open_files(page, file("a.png", flat_png(16, 50)), file("a.png", flat_png(24, 200)))
    expect(page.locator("#shelf-title")).to_have_text("2 of 2 pictures done")
    page.locator("select[name=format]").select_option("WebP")

    with page.expect_download() as download:
        page.get_by_role("button", name="All as ZIP").click()

    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a-denoised.webp", "a-denoised (2).webp"]
        assert [pixels_of(archive.read(name)).shape[0] for name in archive.namelist()] == [16, 24]


@in_browser
def test_what_the_service_refuses_is_said_in_its_words(open_page: OpenPage, url: str) -> None:
    page = open_page(url, refuses=True)

    open_files(page, file("broken.png", b"\x89PNG\r\n\x1a\nnonsense"), file("good.png", flat_png(16, GREY)))

    expect(page.locator("#photo-problem")).to_contain_text("The image is broken: PNG: a header points past the end")
    page.get_by_role("button", name=re.compile(r"^good\.png")).click()
    expect(page.locator("#photo-problem")).to_be_hidden()
    expect(page.locator("#photo-said")).to_contain_text("Denoised by blur/1")


@in_browser
def test_files_are_dropped_and_pasted(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    hand = """([kind, name, bytes]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], name, { type: 'image/png' }));
        const event = kind === 'drop'
            ? new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true })
            : new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true });
        document.body.dispatchEvent(event);
    }"""
    content = list(flat_png(16, GREY))

    page.evaluate(hand, ["drop", "dropped.png", content])
    expect(page.locator("#photo-name")).to_have_text("dropped.png")
    page.evaluate(hand, ["paste", "pasted.png", content])

    expect(page.locator("#photo-name")).to_have_text("pasted.png")
    expect(page.locator("#shelf-title")).to_have_text("2 of 2 pictures done")


@in_browser
def test_a_service_without_a_model_for_photographs_says_so(open_page: OpenPage, tmp_path: Path) -> None:
    publish_toy(tmp_path)
    with service_process(tmp_path) as process:
        page = open_page(process.url)

        expect(page.locator("#photo-lack")).to_have_text("No live model denoises or enlarges pictures of any size.")
        expect(page.locator("#photo-settings, #photo .drop").first).to_be_hidden()
