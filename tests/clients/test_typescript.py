"""The TypeScript client: generated from this service's OpenAPI document, compiled strictly, and run against it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.service.files import png
from tests.service.nanmodel import publish_ignoring
from tests.service.slowmodel import Process, service_process
from tests.service.toymodels import publish_toy

PROJECT = Path(__file__).parents[2] / "clients" / "typescript"
TSC = ("node", "node_modules/typescript/bin/tsc")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory, default_for=["anomaly"])
    publish_ignoring(directory, name="ignoring")
    with service_process(directory) as process:
        yield process


@pytest.fixture(scope="module")
def project(served: Process, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its packages, its types and its compiled code."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is not installed: `apt-get install nodejs npm`")
    if (major := int(run("node", "--version").removeprefix("v").split(".")[0])) < 20:
        pytest.skip(f"Node {major} is too old: the client wants 20")
    project = tmp_path_factory.mktemp("typescript") / "client"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("node_modules", "dist", "schema.ts"))
    installed = subprocess.run(["npm", "ci", "--no-audit"], cwd=project, capture_output=True, text=True, check=False)
    if installed.returncode != 0 and any(code in installed.stderr for code in ("ENOTFOUND", "ECONNREFUSED", "E404")):
        pytest.skip(f"npm reaches no registry: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    document = project / "openapi.json"
    document.write_bytes(httpx.get(f"{served.url}/openapi.json").content)
    run("node", "generate.mjs", str(document), cwd=project)
    run(*TSC, cwd=project)
    return project


def run(*words: str, cwd: Path | None = None, **environ: str) -> str:
    environment = os.environ | environ
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_typescript_client_works_under_node(project: Path, served: Process) -> None:
    spot, half = np.zeros((2, 32, 32), np.uint8)
    spot[8, 8] = half[:, :16] = 255
    levels = {"IMAGE": np.full((4, 4), 100, np.uint8), "SPOT": spot, "HALF": half}
    environ = {"HOURGLASS_URL": served.url}
    for name, values in levels.items():
        environ[f"HOURGLASS_{name}"] = str(project / f"{name}.png")
        (project / f"{name}.png").write_bytes(png(values))

    said = run("node", "--test", "dist/test/client.test.js", cwd=project, **environ)

    assert "fail 0" in said


@pytest.mark.slow
def test_mistakes_are_errors_of_the_compiler(project: Path) -> None:
    error_by_line = {
        "await hourglass.denoise(image, { sigmaa: 3 });": "'sigmaa' does not exist",
        'await hourglass.denoise(image, {}, "image/gif");': '"image/gif"',
        "(await hourglass.anomaly(image)).score.length;": "'length' does not exist on type 'number'",
        "await hourglass.denoise('noisy.png');": "Argument of type 'string'",
    }
    head = 'import { Hourglass } from "../src/index.js"; const hourglass = new Hourglass(), image = new Blob();'
    (project / "test" / "mistake.ts").write_text("\n".join([head, *error_by_line]))

    words = [*TSC, "--noEmit"]
    done = subprocess.run(words, cwd=project, capture_output=True, text=True, check=False)

    errors = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert len(errors) == len(error_by_line), done.stdout
    for number, (found, error) in enumerate(zip(errors, error_by_line.values(), strict=True), start=2):
        assert found.startswith(f"test/mistake.ts({number},")
        assert error in found
