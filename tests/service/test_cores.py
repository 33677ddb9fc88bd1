"""How many cores are ours, and how workers and threads share them."""

import os
import urllib.request
from pathlib import Path

import orjson
import pytest

from service.cores import Plan, plan, usable_cores
from tests.service.slowmodel import service_process
from tests.service.toymodels import publish_toy

OWN = float(len(os.sched_getaffinity(0)))


def usable(tmp_path: Path, own: str, quotas: dict[str, str]) -> float:
    """The cores with a made-up /proc/self/cgroup and files below a made-up /sys/fs/cgroup."""
    for file, content in quotas.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content + "\n")
    (tmp_path / "own").write_text(own)
    return usable_cores(cgroups=tmp_path, own=tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "quotas", "cores"),
    [
        ("0::/\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/\n", {"cpu.max": "max 100000"}, OWN),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "25000 100000"}, 0.25),
        ("0::/a/b\n", {"a/b/cpu.max": "20000 100000", "a/cpu.max": "90000 100000"}, 0.2),
        ("0::/kubepods/pod1\n", {"cpu.max": "10000 100000"}, 0.1),  # the host's path, seen from inside
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "30000", "cpu/cpu.cfs_period_us": "100000"}, 0.3),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, OWN),
        (
            "4:cpu,cpuacct:/docker/1\n",
            {"cpu,cpuacct/docker/1/cpu.cfs_quota_us": "40000", "cpu,cpuacct/docker/1/cpu.cfs_period_us": "50000"},
            0.8,
        ),
        ("3:cpuset:/\n", {"cpuset/cpu.max": "1 100000"}, OWN),  # not a quota of CPU time
        ("0::/\n", {"cpu.max": "999999999 100000"}, OWN),
        ("0::/\n", {"cpu.max": "nonsense"}, OWN),
        ("", {}, OWN),
    ],
)
def test_the_smallest_quota_of_all_cgroups_counts(
    tmp_path: Path, own: str, quotas: dict[str, str], cores: float
) -> None:
    assert usable(tmp_path, own, quotas) == pytest.approx(min(cores, OWN))


def test_without_cgroups_all_cores_are_ours(tmp_path: Path) -> None:
    assert usable_cores(cgroups=tmp_path / "none", own=tmp_path / "none") == OWN


@pytest.mark.parametrize(
    ("cores", "workers", "threads", "found"),
    [(8, 0, 1, 8), (8, 0, 3, 2), (2.5, 0, 1, 2), (0.5, 0, 1, 1), (1, 0, 4, 1), (8, 3, 1, 3), (0.5, 2, 1, 2)],
)
def test_no_number_of_workers_is_as_many_as_there_are_cores_for(
    cores: float, workers: int, threads: int, found: int
) -> None:
    assert plan(workers, threads, cores=cores).workers == found


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        (Plan(2, 2, 1), "2 core(s) for 2 worker(s) of 1 thread(s)"),
        (Plan(0.5, 1, 1), "0.5 core(s) for 1 worker(s) of 1 thread(s)"),
        (Plan(1.5, 1, 1), "1.5 core(s) for 1 worker(s) of 1 thread(s)"),
        (Plan(8, 1, 1), "8 core(s) for 1 worker(s) of 1 thread(s): 7 core(s) stay idle; workers=0 takes all, with a "
         "worker's memory each"),
        (Plan(0.5, 2, 1), "0.5 core(s) for 2 worker(s) of 1 thread(s): 2 threads wait for each other; ask for fewer "
         "workers or threads"),
    ],
)  # fmt: skip
def test_a_plan_says_what_is_idle_and_what_is_too_much(shares: Plan, text: str) -> None:
    assert str(shares) == text


@pytest.mark.parametrize(("shares", "most"), [(Plan(0.5, 1, 1), 5), (Plan(8, 8, 1), 5), (Plan(8, 1, 8), 12)])
def test_the_pool_beside_the_inferences_grows_with_the_cores_of_a_worker(shares: Plan, most: int) -> None:
    assert shares.pool == most


def test_the_plan_is_said_at_start_and_when_asked_for(tmp_path: Path) -> None:
    publish_toy(tmp_path)

    with (
        service_process(tmp_path, "--threads", "2") as process,
        urllib.request.urlopen(f"{process.url}/health/ready") as answer,
    ):
        ready = orjson.loads(answer.read())

    assert (ready["cores"], ready["workers"], ready["threads"]) == (usable_cores(), 1, 2)
    assert any(str(Plan(usable_cores(), 1, 2)) in line for line in process.lines)


def test_no_workers_start_one_for_each_core(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    expected = plan(0, 1).workers

    with service_process(tmp_path, "--workers", "0", workers=expected) as process:
        assert len(process.pids) == expected
