"""What the README tells a newcomer to type, typed."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CURLS = re.findall(r"`(curl [^`]+)`", README)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the shipped models, started as `make serve` starts it, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    collections = f"sqlite:///{tmp_path_factory.mktemp('collections')}/items.db"
    environment = os.environ | {"HOURGLASS_PORT": str(port), "HOURGLASS_COLLECTIONS_URL": collections}
    with subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env=environment) as process:
        try:
            for _ in range(300):
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).is_success:
                        break
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
    assert process.returncode == 0


def test_make_serve_runs_what_this_test_runs() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")

    assert "\nserve: .venv/runtime.stamp\n\t$(BIN)/python -m service\n" in makefile


def test_every_curl_of_the_readme_is_answered(address: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    shutil.copytree(ROOT / "tests" / "data", tmp_path / "tests" / "data")
    assert len(CURLS) >= 7

    for curl in CURLS:
        command = curl.replace("127.0.0.1:8000", address).replace("curl ", "curl --fail --silent --show-error ", 1)
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{curl}\n{done.stderr}"

    assert len(json.loads((tmp_path / "latent.json").read_bytes())["latent"]) == 32
    for name in ("clean.png", "decoded.png", "heat.png"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (28, 28)
    with Image.open(tmp_path / "way.png") as image:
        assert image.size == (9 * 28 + 8 * 2, 28)


def test_every_curl_of_the_page_about_collections_is_answered_as_it_says(address: str) -> None:
    page = (ROOT / "docs" / "collections.md").read_text("utf-8")
    examples = re.findall(r"^    (curl .+)\n((?:    [{ \[].+\n)*)", page, re.MULTILINE)
    assert len(examples) >= 7

    for curl, said in examples:
        command = curl.replace("127.0.0.1:8000", address).replace("curl ", "curl --fail --silent --show-error ", 1)
        done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{curl}\n{done.stderr}"
        if said:
            members = re.findall(r'"(\w+)":', said)
            assert members == re.findall(r'"(\w+)":', done.stdout)[: len(members)], f"{said}\n{done.stdout}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_of_the_readme_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_of_the_docs_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target
