"""The next version of a model, asked for and approved on the page; the tests play the training worker."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.service.files import png
from tests.service.page.browser import in_browser
from tests.service.page.conftest import OpenPage
from tests.service.slowmodel import Process, service_process
from tests.service.toymodels import publish_toy

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Process]:
    version = publish_toy(tmp_path / "models", name="digits", tasks=["anomaly"])
    (version / "preview.png").write_bytes(png(np.full((40, 60), 128, np.uint8)))
    (version / "README.md").write_text("# digits 1\n")
    flags = ("--max-feedback-bytes", "1000000", "--watch-interval-s", "0.1")
    with service_process(tmp_path / "models", *flags) as process:
        yield process


def open_part(page: Page) -> None:
    grey: FilePayload = {"name": "a.png", "mimeType": "image/png", "buffer": png(np.full((4, 4), 25, np.uint8))}
    page.locator("#part-files").set_input_files([grey])
    page.locator("#feedback-fine").click()
    expect(page.locator("#part-training")).to_be_visible()


def lease(service: Process) -> dict[str, Any] | None:
    answer = httpx.post(f"{service.url}/training/lease", json={"worker": "bench"}, timeout=60)
    found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
    return found


def tell(service: Process, task: dict[str, Any], what: str, **said: object) -> bool:
    body = {"job": task["job"], "token": task["token"], **said}
    go_on: bool = httpx.post(f"{service.url}/training/{task['id']}/{what}", json=body, timeout=60).json()["go_on"]
    return go_on


@in_browser
def test_without_a_worker_the_page_shows_the_commands(open_page: OpenPage, service: Process) -> None:
    page = open_page(f"{service.url}/#parts")

    open_part(page)

    training = page.locator("#part-training")
    expect(training.locator(".lead")).to_contain_text("From 1 picture marked as fine.")
    expect(training.locator("code").nth(1)).to_have_text(
        f"python -m training calibrate digits --feedback {service.url}"
    )
    expect(training.get_by_role("button", name="Recalibrate")).to_be_hidden()


@in_browser
def test_a_version_is_watched_compared_approved_and_then_judges(
    open_page: OpenPage, service: Process, tmp_path: Path
) -> None:
    page = open_page(f"{service.url}/#parts")
    lease(service)
    open_part(page)
    training = page.locator("#part-training")

    training.get_by_role("button", name="Recalibrate").click()
    expect(training.locator(".said")).to_have_text("Recalibration: waiting for a worker.")
    task = lease(service)
    assert task is not None
    tell(service, task, "report", said="features", share=0.25, lines="read 1 image\n")
    expect(training.locator(".said")).to_have_text("Recalibration on bench: features.")
    assert training.locator("progress").evaluate("p => p.value") == 0.25
    expect(training.locator(".log")).to_have_text("read 1 image\n")
    expect(training.get_by_role("button", name="Train on these")).to_be_disabled()

    tell(service, task, "end", card="# digits 2, <b>better</b>\n", old_version=1)
    cards = training.locator(".two-cards pre")
    expect(cards).to_have_text(["# digits 1\n", "# digits 2, <b>better</b>\n"])
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        page.evaluate(AXE)
        assert page.evaluate("async () => (await axe.run()).violations.map((v) => v.id)") == []

    training.get_by_role("button", name="Approve").click()
    expect(training.locator(".said")).to_contain_text("Recalibration: going live.")
    publication = lease(service)
    assert publication is not None
    assert publication["work"] == "publish"
    version = publish_toy(tmp_path / "models", name="digits", version=2, tasks=["anomaly"])
    (version / "preview.png").write_bytes(png(np.full((40, 60), 128, np.uint8)))
    tell(service, publication, "end", version=2)
    expect(training.locator(".said")).to_have_text("Recalibration: digits/2 is live.")

    page.get_by_role("button", name="Judge with digits/2").click()
    expect(page.locator("#part-detail > .said").first).to_contain_text("by digits/2", timeout=60_000)


@in_browser
def test_a_training_is_cancelled_and_a_failure_is_told(open_page: OpenPage, service: Process) -> None:
    page = open_page(f"{service.url}/#parts")
    lease(service)
    open_part(page)
    training = page.locator("#part-training")

    training.get_by_role("button", name="Train on these").click()
    task = lease(service)
    assert task is not None
    training.get_by_role("button", name="Cancel").click()
    expect(training.get_by_role("button", name="Recalibrate")).to_be_enabled()
    assert not tell(service, task, "report", said="folds")

    training.get_by_role("button", name="Recalibrate").click()
    expect(training.locator(".said")).to_have_text("Recalibration: waiting for a worker.")
    task = lease(service)
    assert task is not None
    tell(service, task, "end", problem="none of these images is new")
    expect(training.locator(".said")).to_have_text("Recalibration failed: none of these images is new")
