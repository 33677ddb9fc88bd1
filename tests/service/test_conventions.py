"""Conditional GET, a client generated from the API page, and what the built packages hold."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from service import __version__
from tests.service.conftest import MakeClient
from tests.service.slowmodel import ROOT, flat_png, service_process
from tests.service.toymodels import publish_toy

PAGES = (
    "/models",
    "/models/toy",
    "/models/toy?version=1",
    "/openapi.json",
    "/docs/swagger-ui.css",
    "/problems/not-ready",
)


@pytest.mark.parametrize("path", PAGES)
def test_who_still_has_an_answer_is_not_sent_it_again(client: TestClient, path: str) -> None:
    first = client.get(path)
    tag = first.headers["etag"]

    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get(path, headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers.get("x-model") == first.headers.get("x-model")
    for sent in ('"other"', "", "nonsense"):
        again = client.get(path, headers={"If-None-Match": sent})
        assert (again.status_code, again.content) == (200, first.content)


def test_a_new_version_has_another_tag(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(watch_interval_s=0.05)
    tag = client.get("/models/toy").headers["etag"]
    publish_toy(models_dir, version=2)

    client.post("/v2/repository/models/toy.denoise/load")

    assert client.get("/models/toy", headers={"If-None-Match": tag}).status_code == 200
    assert client.get("/models/toy?version=1").headers["etag"] == tag


GENERATED = """
import io, sys
from hourglass_api import Client
from hourglass_api.api.images import anomaly, denoise
from hourglass_api.api.models import get_model, list_models
from hourglass_api.types import File

client = Client(sys.argv[1])
print([m.name for m in list_models.sync(client=client)], get_model.sync("toy", client=client).version)
image = open(sys.argv[2], "rb").read()
print(denoise.sync(client=client, body=File(io.BytesIO(image))).payload.read(4))
print(anomaly.sync(client=client, body=File(io.BytesIO(image))).is_anomalous)
print(denoise.sync(client=client, body=File(io.BytesIO(image)), model="none").code)
"""


@pytest.mark.slow
def test_a_client_generated_from_the_api_page_works(client: TestClient, tmp_path: Path) -> None:
    page, output, image = (tmp_path / name for name in ("openapi.json", "generated", "image.png"))
    page.write_bytes(client.get("/openapi.json").content)
    image.write_bytes(flat_png(4))
    config = ROOT / "docs" / "generated-client.yml"
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(page), "--fail-on-warning"]

    done = subprocess.run(
        [*command, "--config", str(config), "--output-path", str(output)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(output)], check=True)
    models = tmp_path / "models"
    models.mkdir()
    publish_toy(models)
    with service_process(models) as process:
        words = [sys.executable, "-c", GENERATED, process.url, str(image)]
        answer = subprocess.run(words, cwd=output, capture_output=True, text=True, check=False)
    assert answer.stdout.splitlines() == ["['toy'] 1", "b'\\x89PNG'", "False", "model-not-found"], answer.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_the_code_its_data_and_the_licence(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"hourglass_service-{__version__}.dist-info/METADATA").decode()

    tracked = subprocess.run(
        ["git", "ls-files", "service", "training"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    code = {name for name in tracked if not name.endswith("Dockerfile")}
    pages = {name for name in names if name.startswith("service/help/")}
    assert {"service/help/index.html", "service/help/errors.html", "service/help/models/digits/5/index.html"} <= pages
    assert {n for n in names - pages if ".dist-info/" not in n and not n.endswith("Dockerfile")} == code
    assert f"hourglass_service-{__version__}.dist-info/licenses/LICENSE" in names
    assert "License-Expression: MIT" in metadata


def test_the_source_distribution_holds_what_a_build_needs_and_no_more(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        parts = {name.split("/")[1] for name in archive.getnames() if "/" in name}

    assert {"service", "training", "tests", "docs", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} <= parts
    assert {"hatch_build.py", "zensical.toml"} <= parts
    assert parts.isdisjoint({"runs", "data", ".venv", ".git", "models", "build", "dist"})


@pytest.mark.slow
def test_the_wheel_works_where_it_is_installed(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    (tmp_path / "models").mkdir()
    publish_toy(tmp_path / "models")

    with service_process(tmp_path / "models", cwd=tmp_path, path=site) as process:
        where = (Path(f"/proc/{process.popen.pid}/cwd")).resolve()
        answer = httpx.post(f"{process.url}/denoise", content=flat_png(4))

    assert where == tmp_path
    assert answer.content.startswith(b"\x89PNG")
