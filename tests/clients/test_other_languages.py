"""The snippets of docs/client.md for Java and for curl over HTTP/2, as they stand there."""

import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.service.files import pixels_of, png

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "noisy.png").write_bytes(png(np.full((4, 4), 100, np.uint8)))
    (tmp_path / "part.png").write_bytes(png(np.full((4, 4), 250, np.uint8)))
    return tmp_path


def run(*words: str, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_java_snippet_compiles_and_runs(url: str, folder: Path) -> None:
    if shutil.which("javac") is None:
        pytest.skip("javac is not installed: `apt-get install default-jdk-headless`")
    (source,) = re.findall(r"^    import java\.net.*?^    \}\n", PAGE, re.MULTILINE | re.DOTALL)
    (folder / "Ask.java").write_text(textwrap.dedent(source).replace(ADDRESS, url))

    run("javac", "-Xlint:all", "-Werror", "Ask.java", cwd=folder)
    said = run("java", "-cp", ".", "Ask", cwd=folder)

    assert (pixels_of((folder / "clean.png").read_bytes()) == 50).all()
    assert '"is_anomalous":true' in said
    assert "404 " in said
    assert "no model 'none'" in said


def test_the_curl_snippets_over_http_2_are_answered(url: str, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: `apt-get install curl`")
    if "HTTP2" not in run("curl", "--version", cwd=folder):
        pytest.skip("this curl was built without HTTP/2")
    snippets = re.findall(r"^    (curl --http2.+)$", PAGE, re.MULTILINE)
    assert len(snippets) >= 2

    said = [run("sh", "-c", snippet.replace(ADDRESS, url), cwd=folder) for snippet in snippets]

    assert (pixels_of((folder / "clean.png").read_bytes()) == 50).all()
    assert '"is_anomalous":true' in said[-1]
