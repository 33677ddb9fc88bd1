"""What the documentation tells people to type, typed; and what it prints beside that, compared."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.docs.checks import check, versions_not_shipped
from tests.docs.commands import ROOT, Step, agrees, pages, steps_of

DATA = ROOT / "tests" / "data"
ADDRESS = "127.0.0.1:8000"
ALL = {page: steps_of(page) for page in pages()}
PAGES = [page for page, steps in ALL.items() if steps]
RUN = [page for page, steps in ALL.items() if any(not step.needs for step in steps)]
SLOW = [page for page, steps in ALL.items() if any(step.needs == "slow" for step in steps)]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Served:
    """A running service: host and port, and the models directory that it follows."""

    address: str
    models: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service started as `make serve` starts it, with a copy of the shipped models, on a free port."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "models", home / "models")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "HOURGLASS_PORT": str(port),
        "HOURGLASS_MODELS_DIR": str(home / "models"),
        "HOURGLASS_COLLECTIONS_URL": f"sqlite:///{home}/collections/items.db",
        "HOURGLASS_MAX_FEEDBACK_BYTES": "10000000",
    }
    with subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env=environment) as process:
        try:
            while process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=60).is_success:
                        break
                time.sleep(0.1)
            yield Served(f"127.0.0.1:{port}", home / "models")
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.fixture
def desk(tmp_path: Path, served: Served) -> Path:
    """A folder with the files that the pages name, all of them real and small."""
    shutil.copytree(DATA, tmp_path / "tests" / "data")
    (tmp_path / "models").symlink_to(served.models)
    with Image.open(DATA / "hazelnut.jpg") as nut:
        nut.resize((96, 96)).save(tmp_path / "photo.jpg")
        nut.resize((48, 48)).save(tmp_path / "small.jpg")
        nut.resize((48, 48)).save(tmp_path / "small.png")
        nut.save(tmp_path / "part.png")
        np.save(tmp_path / "counts.npy", 16.0 * np.asarray(nut.convert("L").resize((48, 48)), np.float32))
        for folder in ("scans", "line", "my_photos"):
            (tmp_path / folder).mkdir()
            for i in range(2):
                nut.resize((40 + i, 40)).save(tmp_path / folder / f"{i}.png")
    for name, source in (
        ("digit.png", "digit.png"), ("a.png", "digit.png"), ("b.png", "digit_two.png"), ("in.png", "digit_noisy.png"),
        ("noisy.png", "digit_noisy.png"), ("digit_noisy.png", "digit_noisy.png"), ("other.png", "digit_two.png"),
        ("new.png", "digit_two.png"), ("seven.png", "digit.png"), ("damaged.png", "digit_damaged.png"),
    ):  # fmt: skip
        shutil.copy(DATA / source, tmp_path / name)
    for folder in ("digits", "parts/bolt", "parts/nut", "good/bolt", "new"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(DATA / "digit.png", tmp_path / folder / "1.png")
        shutil.copy(DATA / "digit_two.png", tmp_path / folder / "2.png")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_names_what_exists(page: Path) -> None:
    wrong = []
    for step in ALL[page]:
        if step.is_python:
            compile(step.command, str(step), "exec")
            continue
        try:
            check(step)
        except (AssertionError, ImportError, ValueError) as error:
            wrong.append(f"{step}: {step.command}\n    {error}")
    assert wrong == []


@pytest.mark.parametrize("page", [*pages(), *(ROOT / "docs" / "notebooks").glob("*.ipynb")], ids=name_of)
def test_every_version_that_is_named_is_shipped(page: Path) -> None:
    assert versions_not_shipped(page.read_text("utf-8")) == []


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_every_command_runs_and_answers_as_it_says(page: Path, served: Served, desk: Path) -> None:
    run_all([step for step in ALL[page] if not step.needs], served, desk)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=name_of)
def test_every_slow_command_runs_and_answers_as_it_says(page: Path, served: Served, desk: Path) -> None:
    run_all([step for step in ALL[page] if step.needs in {"", "slow"}], served, desk)


def run_all(steps: list[Step], served: Served, desk: Path) -> None:
    wrong = []
    for step in steps:
        if said := problem_of(step, served, desk):
            wrong.append(f"{step}: {step.command}\n{said}")
    assert not wrong, "\n\n".join(wrong)


def problem_of(step: Step, served: Served, desk: Path) -> str:
    """Run one step, and return what is wrong with it; nothing if all is well."""
    here = Path(sys.executable).parent
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HOURGLASS_", "HGCLIENT_"))
    }
    environment |= {
        "PATH": f"{here}:{environment['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python' / 'src'}",
        "HGCLIENT_URL": f"http://{served.address}",
    }
    text = re.sub(rf"(127\.0\.0\.1|localhost):8000|{re.escape(ADDRESS)}", served.address, step.command)
    if step.is_python:
        words = [sys.executable, "-c", text]
    else:
        text = re.sub(r"(^|\s)\.venv/bin/", rf"\1{here}/", text)
        text = text.replace("curl ", "curl --fail-with-body --silent --show-error ")
        words = ["bash", "-o", "pipefail", "-c", text]
    done = subprocess.run(
        words, cwd=desk, env=environment, capture_output=True, text=True, check=False, errors="replace"
    )
    found = done.stdout + done.stderr if not step.answer or not done.stdout else done.stdout
    # 3 is the exit code of `hourglass anomaly` where something is anomalous.
    if done.returncode not in ({0, 3} if "hourglass anomaly" in text else {0}):
        return f"exit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    if "-m training" in text:
        wait_for_models(served)
    if step.answer and not agrees(step.answer, found):
        return f"printed:\n{step.answer}\nfound:\n{found[:1500]}"
    return ""


def wait_for_models(served: Served) -> None:
    """Wait until the service has seen every model in its directory."""
    wanted = {path.parent.parent.name for path in served.models.glob("[!.]*/[!.]*/manifest.json")}
    for _ in range(3000):
        if wanted <= {model["name"] for model in httpx.get(f"http://{served.address}/models", timeout=60).json()}:
            return
        time.sleep(0.1)
    raise AssertionError(f"the service has not taken up all of {wanted}")


def test_make_serve_runs_what_these_tests_run() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")

    assert "\nserve: .venv/runtime.stamp\n\t$(BIN)/python -m service\n" in makefile


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    ("printed", "found", "same"),
    [
        ('{"a": 1.5}', '{"a":-0.25}\n', True),
        ('{"a": 1}', '{"b": 1}', False),
        ('[{"a": [0.1, ...]}, ...]', '[{"a":[3,4,5]},{"a":[1]}]', True),
        ("took 12 s", "took 3.4 s", True),
        ("took 12 s", "took 3.4 min", False),
    ],
)
def test_answers_are_compared_up_to_numbers_and_what_is_left_out(printed: str, found: str, same: bool) -> None:
    assert agrees(printed, found) is same


def test_steps_are_found_with_their_answers_and_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.commands.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        '# A\n\n    curl -d 1 \\\n        http://x\n    {"a": 1}\n\nText, `hourglass models --url x`.\n\n'
        "<!-- needs: docker -->\n\n    docker compose up\n\n```python\nimport x\n```\n"
    )

    steps = steps_of(page)

    assert [(step.command, step.answer, step.needs, step.is_python) for step in steps] == [
        ("curl -d 1 http://x", '{"a": 1}\n', "", False),
        ("hourglass models --url x", "", "", False),
        ("docker compose up", "", "docker", False),
        ("import x\n", "", "", True),
    ]
