"""Every route gets the worst bodies that it may get, and health answers meanwhile. A new route is asked by itself."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.reliability.bodies import FILE_CAP, JSON_CAP, ORDER_CAP, Body, file_bodies, json_bodies
from benchmarks.reliability.watch import Watch, ask
from benchmarks.service import Service
from service.api.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[2]
MOST_S = 0.25  # that another client waits, of CPU time
UNIT_S = 0.12  # that `unit` takes on a machine of 2025; a slower one may take longer over a request, too
TRIES = 3  # a stall comes again, a busy machine seldom does
IN_PATH = {"collection": "c", "name": "digits", "id": "i", "version": "5"}
V2_MODEL = "digits.denoise"


def routes() -> list[tuple[str, str]]:
    """Method and path of all routes, the hidden ones, too, with names in their paths that exist."""
    found = []
    for route in create_app(Settings(models_dir=ROOT / "models")).routes:
        path = re.sub(r"\{(\w+)(:\w+)?\}", lambda name: IN_PATH.get(name[1], "x"), getattr(route, "path", ""))
        path = path.replace("/v2/models/digits", f"/v2/models/{V2_MODEL}")
        found += [(method, path) for method in sorted(getattr(route, "methods", None) or ())]
    return found


ROUTES = routes()
READING = [(method, path) for method, path in ROUTES if method in {"POST", "PUT", "PATCH"}]


def unit_s() -> float:
    """The CPU time of some Python, the least of three times."""
    times = []
    for _ in range(3):
        started = time.thread_time()
        sum(number * number for number in range(2_000_000))
        times.append(time.thread_time() - started)
    return min(times)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    store = tmp_path_factory.mktemp("collections") / "items.db"
    flags = ("--collections-url", f"sqlite:///{store}", "--request-timeout-s", "1", "--max-feedback-bytes", "1000000")
    with Service(*flags) as service:
        yield service


@pytest.fixture(scope="module")
def bodies() -> dict[str, Body]:
    sizes = {"JSON": JSON_CAP, "order": ORDER_CAP}
    found = {f"{kind}: {name}": body for kind, size in sizes.items() for name, body in json_bodies(size)}
    return found | dict(file_bodies(FILE_CAP))


def stall_s(service: Service, method: str, path: str, body: Body) -> float:
    """The longest wait for health while a request is answered; the least of some tries, where it is long."""
    found: list[float] = []
    while len(found) < TRIES and (not found or min(found) > MOST_S):
        with Watch(service.port, service.process.popen.pid) as watch:
            status, _ = ask(service.port, method, path, body.content, body.headers)
            time.sleep(0.05)
        assert status != 500, (method, path)
        found.append(watch.stall_s)
    return min(found)


@pytest.mark.slow
def test_no_body_of_a_route_keeps_others_waiting(service: Service, bodies: dict[str, Body]) -> None:
    allowed_s = MOST_S * max(1.0, unit_s() / UNIT_S)

    stalls = {
        f"{method} {path}, {name}": stall_s(service, method, path, body)
        for i, (method, path) in enumerate(READING)
        for j, (name, body) in enumerate(bodies.items())
        if (i + j) % 6 == 0  # all pairs take a quarter of an hour; neighbours in the list read alike
    }

    assert len(READING) > 15
    assert {name: stall for name, stall in stalls.items() if stall > allowed_s} == {}


def test_no_address_of_a_route_keeps_others_waiting(service: Service) -> None:
    allowed_s = MOST_S * max(1.0, unit_s() / UNIT_S)
    long = "a" * 14_000
    queries = ["&".join(f"a{i}=1" for i in range(3000)), f"model={long}", "version=" + "9" * 14_000, "%00" * 5_000]

    stalls = {
        f"{method} {path}, query {number}": stall_s(service, method, f"{path}?{query}", Body(b"", {}))
        for method, path in ROUTES
        for number, query in enumerate(queries)
    }
    stalls |= {f"{path}, long": stall_s(service, "GET", f"{path}/{long}", Body(b"", {})) for _, path in ROUTES}

    assert {name: stall for name, stall in stalls.items() if stall > allowed_s} == {}
