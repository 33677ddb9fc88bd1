"""A training worker beside a running service: from a button on the page to a live version."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from tests.service.slowmodel import Process, default_signals, service_process, until
from tests.training.test_feedback import DEFECTS, FINE, GOOD
from tests.training.test_fit_anomaly import QUICK, read_manifest, write_stripes
from training.__main__ import main
from training.child import Cancelled, run_child
from training.errors import RunError

TIMEOUT_S = 3600.0  # far more than a busy machine needs

BARS = """
import sys
from tqdm import tqdm
tqdm.write("begins")
for _ in tqdm(range(4), desc="features", mininterval=0):
    pass
tqdm.write("ends")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("worker")
    write_stripes(home / "good" / "stripes", GOOD, seed=0)
    write_stripes(home / "fine", FINE, seed=5)
    write_stripes(home / "defects", DEFECTS, seed=1, damaged=True)
    assert main([
        "fit", "anomaly", "--data", str(home / "good" / "stripes"), "--name", "stripes", "--runs", str(home / "runs"),
        "--models", str(home / "models"), "--quiet", "target_fpr=0.03", *QUICK,
    ]) == 0  # fmt: skip
    return home


@pytest.fixture
def service(home: Path) -> Iterator[Process]:
    with service_process(home / "models", "--max-feedback-bytes", "10000000", "--watch-interval-s", "0.2") as process:
        for verdict, folder in (("fine", home / "fine"), ("defect", home / "defects")):
            for picture in folder.iterdir():
                ask(process, "POST", f"feedback?verdict={verdict}", picture.read_bytes())
        yield process


def ask(service: Process, method: str, path: str, content: bytes | None = None) -> Any:  # noqa: ANN401  JSON
    answer = httpx.request(method, f"{service.url}/models/stripes/{path}", content=content, timeout=60)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


@contextmanager
def worker_process(service: Process, home: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    words = ["--models", home / "models", "--runs", home / "staging", "--data", home / "good", "--name", name]
    with default_signals():
        worker = subprocess.Popen(
            [sys.executable, "-m", "training", "worker", "--service", service.url, *map(str, words)]
        )
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def wait_for(service: Process, training_id: str, *states: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def has_come() -> bool:
        found.update(ask(service, "GET", f"training/{training_id}"))
        assert found["state"] in states or found["state"] not in {"failed", "live"}, found
        return found["state"] in states

    until(has_come, TIMEOUT_S)
    return found


def let_the_lease_run_out(home: Path) -> None:
    """As if a minute had passed."""
    (file,) = Path(f"{home / 'models'}-collections").glob("*-jobs.db")
    db = apsw.Connection(str(file))
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%leased_until%'").fetchall()
    db.setbusytimeout(10_000)
    for (table,) in tables:  # of the jobs, and of their heartbeats
        db.execute(f'UPDATE "{table}" SET leased_until = 0 WHERE leased_until IS NOT NULL')
    db.close()


@pytest.mark.slow
def test_a_killed_worker_is_followed_by_another_one_and_only_what_is_approved_goes_live(
    home: Path, service: Process
) -> None:
    old = read_manifest(home / "models/stripes/1")
    with worker_process(service, home, "first") as first:
        until(lambda: ask(service, "GET", "training")["workers"], TIMEOUT_S)
        training_id = ask(service, "POST", "training?work=fit")["id"]
        wait_for(service, training_id, "running")
        first.send_signal(signal.SIGKILL)
        first.wait()
    let_the_lease_run_out(home)

    with worker_process(service, home, "second"):
        ready = wait_for(service, training_id, "ready")

        assert ready["worker"] == "second"
        assert "second starts again, as the previous worker was lost" in ready["log"]
        assert f"feedback on stripes: {FINE} fine, {DEFECTS} with a defect" in ready["log"]
        assert "auroc" in ready["card"]
        assert [path.name for path in (home / "models/stripes").iterdir()] == ["1"]  # nothing is live before

        ask(service, "POST", f"training/{training_id}/approve")
        live = wait_for(service, training_id, "live")

    assert live["version"] == 2
    new = read_manifest(home / "models/stripes/2")
    assert new.provenance.data.split.train == GOOD + FINE
    assert new.input == old.input
    assert new.anomaly is not None
    assert new.anomaly.target_fpr == 0.03  # as the version before
    until(lambda: httpx.get(f"{service.url}/models").json()[0]["version"] == 2, TIMEOUT_S)


@pytest.mark.slow
def test_what_cannot_be_trained_is_said_in_the_words_of_the_command(home: Path, service: Process) -> None:
    httpx.delete(f"{service.url}/models/stripes/feedback")
    with worker_process(service, home, "bench"):
        until(lambda: "bench" in ask(service, "GET", "training")["workers"], TIMEOUT_S)
        training_id = ask(service, "POST", "training?work=calibrate")["id"]

        failed = wait_for(service, training_id, "failed")

    assert failed["problem"].startswith("nobody has called a picture of stripes at")


def test_a_child_tells_how_far_it_is_and_what_it_prints() -> None:
    reports: list[dict[str, object]] = []

    def report(said: dict[str, object]) -> bool:
        reports.append(said)
        return True

    run_child([sys.executable, "-c", BARS], key="", report=report)

    assert reports[-1]["said"] == "features"
    assert reports[-1]["share"] == 1.0
    assert "".join(str(report["lines"]) for report in reports) == "begins\nends\n"


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(RunError, match=r"^no pictures$"):
        run_child([sys.executable, "-c", "import sys; sys.exit('error: no pictures')"], key="", report=lambda _: True)


def test_a_child_that_nobody_wants_any_more_is_ended(tmp_path: Path) -> None:
    script = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    with pytest.raises(Cancelled):
        run_child([sys.executable, "-c", script], key="", report=lambda _: not (tmp_path / "pid").exists())

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_service_that_refuses_the_worker_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").mkdir()
    with service_process(tmp_path / "models", "--api-keys", "a-key-of-sixteen-letters") as process:
        assert main(["worker", "--service", process.url, "--key", "another-key-of-sixteen"]) == 1

    assert "refuses this worker: 403" in capsys.readouterr().err
