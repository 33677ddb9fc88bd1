"""From the signal to the end: nothing that was taken is lost. And workers: one that dies is replaced."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from service.models.provider import CPU
from service.models.session import start_provider
from tests.service.files import pixels_of
from tests.service.rawclient import RawClient, Reply, get, post
from tests.service.slowmodel import ROOT, START_TIMEOUT_S, flat_png, publish_slow, service_process, until
from tests.service.toymodels import publish_toy

DENOISE = "/denoise?model=toy"
SMALL = flat_png(4)
LONG_GRACE = ("--grace-s", "300")  # longer than any of this takes


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    publish_slow(directory)
    return directory


def is_halved(reply: Reply) -> bool:
    return reply.status == 200 and bool((pixels_of(reply.body) == 50).all())


def is_draining(port: int) -> bool:
    return get(port, "/health/ready").status == 503


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_answers_what_was_taken_and_refuses_the_rest(models: Path) -> None:
    slow = flat_png(1000)
    with (
        service_process(models, *LONG_GRACE) as process,
        RawClient(port := process.port) as idle,
        RawClient(port) as reading,
        RawClient(port) as working,
    ):
        reading.take_a_place(DENOISE, len(SMALL))
        working.take_a_place("/denoise?model=slow", len(slow))
        working.send(slow)

        process.popen.send_signal(signal.SIGTERM)
        until(lambda: is_draining(port))
        time.sleep(1)  # longer than a service stays that has nothing to do
        ready = get(port, "/health/ready")
        refused = post(port, DENOISE, SMALL)
        idle.send_head(DENOISE, len(SMALL))  # on a connection from before the signal
        refused_too = idle.reply()
        live = get(port, "/health/live")
        reading.send(SMALL)
        taken = [reading.reply(), working.reply()]

        assert [reply.code for reply in (ready, refused, refused_too)] == ["draining"] * 3
        assert [reply.headers["connection"] for reply in (refused, refused_too, *taken)] == ["close"] * 4
        assert "retry-after" in refused.headers
        assert live.status == 200
        assert all(is_halved(reply) for reply in taken)
        assert process.popen.wait(START_TIMEOUT_S) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_stop_signal_drains(models: Path, number: signal.Signals, workers: int) -> None:
    with service_process(models, *LONG_GRACE, workers=workers) as process, RawClient(process.port) as taker:
        taker.take_a_place(DENOISE, len(SMALL))
        for pid in {process.popen.pid, *process.pids}:  # a terminal sends it to the whole group
            os.kill(pid, number)
        until(lambda: is_draining(process.port))
        taker.send(SMALL)

        assert is_halved(taker.reply())
        assert process.popen.wait(START_TIMEOUT_S) == 0


def test_a_second_signal_ends_it_at_once(models: Path) -> None:
    with service_process(models, *LONG_GRACE) as process, RawClient(process.port) as taker:
        taker.take_a_place(DENOISE, len(SMALL))
        process.popen.send_signal(signal.SIGTERM)
        until(lambda: is_draining(process.port))

        assert process.stop() == 1


def test_what_is_not_done_after_the_grace_period_gets_its_503(models: Path) -> None:
    with service_process(models, "--grace-s", "1") as process, RawClient(process.port) as taker:
        taker.take_a_place(DENOISE, len(SMALL))  # and never sends its body

        code = process.stop()
        reply = taker.reply()

        assert (reply.status, reply.code) == (503, "draining")
        assert code == 1
        assert "Traceback" not in "".join(process.lines)


def test_a_killed_worker_comes_back_and_sigterm_drains_all(models: Path) -> None:
    with service_process(models, *LONG_GRACE, workers=2) as process:
        port = process.port
        replies: list[Reply | OSError] = []
        is_over = threading.Event()

        def ask_on() -> None:
            while not is_over.is_set():
                try:
                    replies.append(post(port, DENOISE, SMALL))
                except OSError as error:
                    replies.append(error)
                is_over.wait(0.01)

        client = threading.Thread(target=ask_on)
        client.start()
        victim, survivor = process.pids
        os.kill(victim, signal.SIGKILL)
        process.wait_for_servers(3)
        answered = len(replies)
        until(lambda: len(replies) > answered + 5)
        is_over.set()
        client.join()

        # The kill can hit the one request that the client has open at that moment, and no other.
        assert sum(not isinstance(reply, Reply) for reply in replies) <= 1
        assert all(is_halved(reply) for reply in replies if isinstance(reply, Reply))
        assert is_alive(survivor)

        takers = [RawClient(port) for _ in range(4)]
        for taker in takers:
            taker.take_a_place(DENOISE, len(SMALL))
        process.popen.send_signal(signal.SIGTERM)
        for taker in takers:
            taker.send(SMALL)
        assert all(is_halved(taker.reply()) for taker in takers)
        assert process.popen.wait(START_TIMEOUT_S) == 0
        assert not any(is_alive(pid) for pid in process.pids)
        for taker in takers:
            taker.close()


def test_a_worker_that_hangs_is_replaced(models: Path) -> None:
    with service_process(models, "--worker-timeout-s", "5", workers=2) as process:
        victim = process.pids[0]
        until(lambda: get(process.port, "/health/ready").status == 200)

        os.kill(victim, signal.SIGSTOP)
        process.wait_for_servers(3)

        assert "no heartbeat" in "".join(process.lines)
        until(lambda: not is_alive(victim))


def test_workers_end_when_their_parent_is_killed(models: Path) -> None:
    with service_process(models, workers=2) as process:
        process.popen.kill()
        process.popen.wait()

        until(lambda: not any(is_alive(pid) for pid in process.pids))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in Linux's /proc")
def test_a_worker_that_starts_while_its_parent_is_killed_ends_too(models: Path) -> None:
    with service_process(models, workers=2) as process:
        children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children")
        before = set(children.read_text().split())
        os.kill(process.pids[0], signal.SIGKILL)
        until(lambda: set(children.read_text().split()) - before)
        (starting,) = map(int, set(children.read_text().split()) - before)

        process.popen.kill()
        process.popen.wait()

        until(lambda: not is_alive(starting))


def run_to_the_end(*flags: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "service", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
    return ended.returncode, ended.stderr


def test_a_port_that_is_taken_is_named(models: Path) -> None:
    with service_process(models) as process:
        code, output = run_to_the_end("--models-dir", str(models), "--port", str(process.port))

        assert code == 2
        assert f"cannot listen on 127.0.0.1:{process.port}: Address already in use" in output
        assert "Traceback" not in output


def test_workers_that_cannot_start_end_the_parent(models: Path) -> None:
    if start_provider("auto") != CPU:
        pytest.skip("this machine has CUDA")

    code, output = run_to_the_end("--models-dir", str(models), "--port", "0", "--workers", "2", "--device", "cuda")

    assert code == 2
    assert "Hourglass cannot start: device=cuda" in output
    assert "Traceback" not in output
