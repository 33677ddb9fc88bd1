"""The tab Parts, in a real browser: `toy` scores a picture with the mean of its squared pixels."""

import csv
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
from tests.service.nanmodel import publish_ignoring
from tests.service.page.browser import in_browser, set_slider
from tests.service.page.conftest import OpenPage
from tests.service.slowmodel import service_process
from tests.service.toymodels import SCORES, publish_toy

LEVELS = {"dark.png": 25, "middle.png": 150, "high.png": 240, "white.png": 255}
SCORE_BY_NAME = {name: (level / 255) ** 2 for name, level in LEVELS.items()}


def publish(directory: Path) -> None:
    """`digits` learnt grey 4x4, `plate` colour 64x64; both have a preview."""
    for name, channels, side in (("digits", 1, 4), ("plate", 3, 64)):
        version = publish_toy(directory, name=name, channels=channels, side=side, tasks=["anomaly"])
        (version / "preview.png").write_bytes(png(np.full((40, 60), 128, np.uint8)))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("models")
    publish(directory)
    flags = ("--max-feedback-bytes", "1000000", "--collections-url", f"sqlite:///{directory.parent}/feedback.db")
    with service_process(directory, *flags) as process:
        yield f"{process.url}/#parts"


def flat(name: str, level: int, side: int = 4, *, is_colour: bool = False) -> dict[str, str | bytes]:
    shape = (side, side, 3) if is_colour else (side, side)
    values = np.full(shape, level, np.uint8)
    if is_colour:
        values[..., 2] = 0
    return {"name": name, "mimeType": "image/png", "buffer": png(values)}


def open_files(page: Page, *files: dict[str, str | bytes]) -> None:
    page.locator("#part-files").set_input_files(list(files))  # type: ignore[arg-type]  # dictionaries will do


def open_folder(page: Page) -> None:
    """Four grey pictures, judged by the model that is proposed for them: digits."""
    open_files(page, *(flat(name, level) for name, level in LEVELS.items()))
    expect(page.locator("#part-progress")).to_have_text("4 of 4 pictures judged")


def names(page: Page) -> list[str]:
    return page.locator("#gallery .part-name").all_text_contents()


@in_browser
def test_a_folder_is_sorted_by_score_with_a_verdict_on_each(open_page: OpenPage, url: str) -> None:
    page = open_page(url)

    open_folder(page)

    assert names(page) == ["white.png", "high.png", "middle.png", "dark.png"]
    expect(page.locator("#gallery .verdict")).to_have_text(
        ["unusual 1.00", "normal 0.886", "normal 0.346", "normal 0.00961"]
    )
    detail = page.locator("#part-detail")
    expect(detail.locator(".part-title")).to_have_text("white.png")
    expect(detail.locator(".said").first).to_have_text(
        "Higher than all 99 good pictures it was checked against. Score 1.00, limit 0.950, by digits/1."
    )
    page.get_by_role("button", name=re.compile("^high")).click()
    expect(detail.locator(".said").first).to_contain_text("Higher than 89 of the 99 good pictures")
    assert sum(score < SCORE_BY_NAME["high.png"] for score in SCORES) == 89


@in_browser
def test_another_rate_of_false_alarms_judges_all_again_at_once(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    open_folder(page)
    expect(page.locator("#part-rate-said")).to_contain_text("About 5 % of good pictures would be flagged: limit 0.950.")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/anomaly" in request.url else None)

    slider = page.locator("#part-rate")
    set_slider(slider, 10**6)  # its largest: 50 of 100

    expect(page.locator("#part-rate-said")).to_have_text(
        "About 50 % of good pictures would be flagged: limit 0.490. Here 2 of 4 are flagged."
    )
    expect(page.locator("#gallery .verdict").nth(1)).to_have_text("unusual 0.886")
    expect(page.locator("#part-detail .boxes span")).to_have_count(1)
    assert {url.partition("?")[2] for url in asked} == {"model=digits&version=1&max_fpr=0.5"}  # of the one shown
    set_slider(slider, 0)
    expect(page.locator("#part-rate-said")).to_contain_text("About 1 % of good pictures would be flagged, the lowest")
    expect(page.locator("#gallery [data-kind=unusual]")).to_have_count(1)
    page.get_by_role("button", name="As calibrated").click()
    expect(page.locator("#part-rate-said")).to_contain_text("limit 0.950")


@in_browser
def test_the_limits_of_the_slider_are_those_of_the_service(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    open_folder(page)
    steps = page.evaluate(
        """async () => {
            const { Calibration } = await import('./page/parts/calibration.js');
            const { anomaly } = await (await fetch('models/digits')).json();
            return new Calibration(anomaly).steps;
        }"""
    )

    for step in (steps[0], steps[len(steps) // 2], steps[-1]):
        answer = page.evaluate(
            """async ([rate, bytes]) => (await fetch(`anomaly?model=digits&max_fpr=${rate}`,
                { method: 'POST', body: new Uint8Array(bytes) })).json()""",
            [step["rate"], list(png(np.zeros((4, 4), np.uint8)))],
        )
        assert answer["threshold"] == step["threshold"]


@in_browser
def test_the_model_is_proposed_by_what_the_pictures_are(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#part-why")).to_have_text("Open a picture, and a model that fits is proposed.")
    assert page.locator("#part-models img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") == 60

    open_files(page, flat("plate.png", 200, 80, is_colour=True))

    expect(page.locator("#part-models :checked")).to_have_value("plate")
    expect(page.locator("#part-why")).to_contain_text(
        "plate/1 was proposed: your pictures suit it in size and colour (it sees colour, 64x64 pixels; "
        "yours: colour, 80x80 pixels)."
    )


@in_browser
def test_of_models_that_fit_as_well_the_one_is_proposed_to_which_the_picture_is_ordinary(
    open_page: OpenPage, tmp_path: Path
) -> None:
    wide = tuple(2 * score for score in SCORES)
    calibration = {"score": "mean of x^2", "target_fpr": 0.05, "threshold": 1.9, "scores": wide, "map_peaks": wide}
    publish_toy(tmp_path, name="plate", channels=3, side=64, tasks=["anomaly"])
    publish_toy(
        tmp_path, name="tray", channels=3, side=64, tasks=["anomaly"], manifest_changes={"anomaly": calibration}
    )
    for name in ("plate", "tray"):
        (tmp_path / name / "1" / "preview.png").write_bytes(png(np.full((4, 4), 128, np.uint8)))
    with service_process(tmp_path) as process:
        page = open_page(f"{process.url}/#parts")

        open_files(page, flat("bright.png", 220, 64, is_colour=True))  # 0.50 on average: a p-value of 0.5, or of 0.75

        expect(page.locator("#part-models :checked")).to_have_value("tray")
        expect(page.locator("#part-why")).to_contain_text(
            "Of the 2 models that fit, it finds your first picture the most ordinary."
        )
        expect(page.locator("#part-progress")).to_have_text("1 of 1 pictures judged")


@in_browser
def test_digits_are_never_proposed_for_a_photograph(open_page: OpenPage, tmp_path: Path) -> None:
    (publish_toy(tmp_path, name="digits") / "preview.png").write_bytes(png(np.zeros((4, 4), np.uint8)))
    with service_process(tmp_path) as process:
        page = open_page(f"{process.url}/#parts")
        open_files(page, flat("photo.png", 90, 300, is_colour=True))

        expect(page.locator("#part-why")).to_contain_text(
            "No live model was made for such pictures (colour, 300x300 pixels)."
        )
        expect(page.locator("#part-progress")).to_have_text("0 of 1 pictures judged: choose a model")
        page.get_by_text("digits/1").click()
        expect(page.locator("#part-why")).to_have_text(
            "digits/1 was chosen by you, but its verdicts mean little here: it was trained on pictures of 4x4 pixels, "
            "and this one has 300x300."
        )
        expect(page.locator("#part-progress")).to_have_text("1 of 1 pictures judged")
        expect(page.locator("#part-detail .heat")).to_be_visible()


@in_browser
def test_the_chosen_model_is_remembered_and_takes_the_verdicts_of_the_other_away(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    open_folder(page)
    expect(page.locator("#part-detail .said").first).to_contain_text("by digits/1")

    page.get_by_text("plate/1", exact=True).click()

    expect(page.locator("#part-detail .said").first).to_contain_text("by plate/1")
    page.reload()
    expect(page.locator("#part-models :checked")).to_have_value("plate")
    expect(page.locator("#part-why")).to_contain_text("plate/1 was chosen by you.")


@in_browser
def test_the_gallery_is_filtered_and_one_picture_stands_beside_another(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    open_folder(page)

    page.get_by_label("Normal 3").check()
    assert names(page) == ["high.png", "middle.png", "dark.png"]
    page.get_by_label("All 4").check()
    page.get_by_label("Only names").fill("MID")
    expect(page.locator("#gallery .part-name")).to_have_text(["middle.png"])
    page.get_by_label("Beside it").select_option("ordinary")

    expect(page.locator(".other figcaption")).to_have_text("dark.png, score 0.00961")
    heat = page.locator("#part-detail .heat")
    expect(heat).to_be_visible()
    set_slider(page.locator("#heat-opacity"), 0.25)
    assert heat.evaluate("img => img.style.opacity") == "0.25"


@in_browser
def test_verdicts_are_exported_as_csv_and_as_one_html_file(open_page: OpenPage, url: str, tmp_path: Path) -> None:
    page = open_page(url)
    open_files(page, flat('=cmd,"1".png', 255), flat("<b>.png", 25))
    expect(page.locator("#part-progress")).to_have_text("2 of 2 pictures judged")

    with page.expect_download() as table:
        page.get_by_role("button", name="CSV").click()
    with page.expect_download() as report:
        page.get_by_role("button", name="Report").click()

    rows = list(csv.DictReader(io.StringIO(table.value.path().read_text())))
    assert [row["name"] for row in rows] == ['\'=cmd,"1".png', "<b>.png"]  # no formula for a spreadsheet
    assert [row["verdict"] for row in rows] == ["unusual", "normal"]
    assert (rows[0]["higher_than"], rows[0]["of"], rows[0]["p_value"], rows[0]["model"]) == (
        "99",
        "99",
        "0.01",
        "digits/1",
    )
    assert rows[0]["regions"] == "0 0 4 4 16"
    text = report.value.path().read_text()
    assert "<h1>1 of 2 pictures are unusual</h1>" in text
    assert "&#60;b&#62;.png: normal" in text
    assert text.count('<img src="data:image/jpeg;base64,') == 3  # the heat map of the unusual one, too
    assert "http" not in text.replace("http://www.w3.org/", "")


@in_browser
def test_a_picture_that_the_browser_cannot_show_is_judged_and_seen_by_its_heat_map(
    open_page: OpenPage, url: str
) -> None:
    page = open_page(url)
    tiff = save(Image.fromarray(np.full((4, 4), 255 * 257, np.uint16)), "TIFF")
    open_files(page, {"name": "deep.tif", "mimeType": "image/tiff", "buffer": tiff})
    expect(page.locator("#part-why")).to_contain_text("The browser cannot read this picture, so choose a model")

    page.get_by_text("digits/1", exact=True).click()

    expect(page.locator("#gallery .verdict")).to_have_text("unusual 1.00")
    expect(page.locator("#part-detail .heat")).to_be_visible()
    expect(page.locator("#part-detail .base")).to_be_hidden()
    assert page.locator("#gallery img").evaluate("img => img.decode().then(() => img.naturalWidth)") == 4


@in_browser
def test_one_broken_picture_spoils_nothing_for_the_others(open_page: OpenPage, url: str) -> None:
    page = open_page(url, refuses=True)

    open_files(
        page, flat("good.png", 25), {"name": "bad.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\nx"}
    )

    expect(page.locator("#part-progress")).to_have_text("2 of 2 pictures judged")
    expect(page.locator("#gallery .verdict")).to_have_text(["normal 0.00961", "failed"])
    page.get_by_role("button", name=re.compile("^bad")).click()
    expect(page.locator("#part-detail > .problem")).to_contain_text("The image is broken")


@in_browser
def test_the_camera_is_judged_and_a_frame_is_kept(open_page: OpenPage, url: str) -> None:
    page = open_page(url, permissions=["camera"])

    page.get_by_role("button", name="Use the camera").click()

    camera = page.locator("#part-camera")
    expect(camera.locator(".said")).to_contain_text("good pictures it was checked against")
    expect(camera.locator(".said")).to_contain_text("by plate/1")  # the test pattern is in colour
    camera.get_by_role("button", name="Keep this frame").click()
    expect(page.locator("#part-progress")).to_have_text("1 of 1 pictures judged")
    camera.get_by_role("button", name="Stop the camera").click()
    expect(camera).to_be_hidden()


@in_browser
def test_an_opinion_is_kept_with_a_mark_exported_and_deleted(open_page: OpenPage, url: str) -> None:
    page = open_page(url, viewport={"width": 1280, "height": 2000})  # the picture and its buttons are in view
    open_files(page, flat("good.png", 25, 16), flat("scratched.png", 255, 16))
    expect(page.locator("#part-progress")).to_have_text("2 of 2 pictures judged")
    feedback = page.locator("#part-feedback")
    page.wait_for_function("() => document.querySelector('#part-detail .stage').clientHeight > 100")  # it is shown

    feedback.get_by_label("Your name").fill("Ann")
    feedback.get_by_label("Mark it").check()
    box = page.locator("#brush").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    feedback.get_by_role("button", name="Defect").click()
    expect(feedback.locator(".given")).to_have_text(
        "Marked as a defect, with a mask. Stored for the next version of digits."
    )
    page.get_by_role("button", name=re.compile("^good")).click()
    expect(feedback.locator(".given")).to_be_empty()  # that was said of the other
    feedback.get_by_role("button", name="Fine").click()

    expect(feedback.locator(".given-so-far span")).to_have_text("Kept for digits: 1 fine, 1 with a defect.")
    with page.expect_download() as download:
        feedback.get_by_role("button", name="Export").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        (mask,) = (name for name in archive.namelist() if name.startswith("masks/"))
        marked = pixels_of(archive.read(mask))[..., 0]
        assert archive.read("feedback.csv").count(b"Ann") == 2
    assert marked.shape == (16, 16)
    assert (marked[8] == 255).all()
    assert marked[0].max() == marked[15].max() == 0
    page.on("dialog", lambda dialog: dialog.accept())
    feedback.get_by_role("button", name="Delete all").click()
    expect(feedback.locator(".given-so-far")).to_be_hidden()


@in_browser
def test_what_a_mask_covers_takes_no_part_in_verdicts_heat_maps_and_the_report(
    open_page: OpenPage, tmp_path: Path
) -> None:
    half, left, right = (np.zeros((32, 32), np.uint8) for _ in range(3))
    half[:, :16] = left[8, 8] = right[8, 24] = 255
    publish(tmp_path)
    (publish_ignoring(tmp_path, name="window") / "preview.png").write_bytes(png(half))
    with service_process(tmp_path) as process:
        page = open_page(f"{process.url}/#parts")
        for name, values in {"left.png": left, "right.png": right}.items():
            open_files(page, {"name": name, "mimeType": "image/png", "buffer": png(values)})
        page.locator("#part-models label", has_text="window").click()
        verdicts = page.locator("#gallery .verdict")
        expect(verdicts).to_have_text(["unusual 1.00", "unusual 1.00"])
        covered = page.locator("#part-detail .ignored")
        expect(covered).to_be_hidden()

        page.locator("#part-mask").set_input_files({"name": "half.png", "mimeType": "image/png", "buffer": png(half)})

        expect(verdicts).to_have_text(["unusual 1.00", "normal 0"])
        expect(page.locator("#part-ignore .said")).to_have_text(
            "What is white in half.png takes no part in the verdicts."
        )
        expect(covered).to_be_visible()
        page.get_by_role("button", name=re.compile("^left")).click()
        expect(page.locator("#part-detail .no-regions")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="Report").click()
        assert "What is white in half.png takes no part" in download.value.path().read_text()
        page.get_by_role("button", name="Ignore nothing").click()
        expect(verdicts).to_have_text(["unusual 1.00", "unusual 1.00"])
        page.locator("#part-models label", has_text="digits").click()
        expect(page.locator("#part-ignore")).to_be_hidden()


@in_browser
def test_where_feedback_is_off_the_page_says_who_can_turn_it_on(open_page: OpenPage, tmp_path: Path) -> None:
    publish(tmp_path)
    with service_process(tmp_path) as process:
        page = open_page(f"{process.url}/#parts")
        open_folder(page)

        expect(page.locator("#part-feedback .off")).to_contain_text("with the setting max_feedback_bytes")
        expect(page.locator("#feedback-fine")).to_be_hidden()
        expect(page.locator("#part-detail .heat")).to_be_visible()


@in_browser
def test_without_a_model_that_finds_anomalies_the_tab_says_so(open_page: OpenPage, tmp_path: Path) -> None:
    publish_toy(tmp_path, tasks=["denoise"])
    with service_process(tmp_path) as process:
        page = open_page(f"{process.url}/#parts")

        expect(page.locator("#part-lack")).to_have_text("No live model finds anomalies. Live models: toy.")
        expect(page.locator("#parts .drop")).to_be_hidden()
