"""Every route gets the worst bodies that it may get, and health answers meanwhile. A new route is asked by itself."""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
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
TRIES = 3
IN_PATH = {"collection": "c", "name": "digits", "id": "i", "version": "5"}
V2_MODEL = "digits.denoise"
# The model of photographs works for a minute on the largest picture, in tiles; that of digits costs nothing beside
# reading and writing.
QUERIES = {"/denoise": "?model=digits", "/compress": "?model=digits-compressed"}
PATIENCE_S = 10.0  # then the client leaves


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


@pytest.fixture(scope="module")
def allowed_s() -> float:
    """How long health may wait here, in CPU time."""
    return MOST_S * max(1.0, unit_s() / UNIT_S)


def stall_s(service: Service, requests: Iterable[tuple[str, str, Body]]) -> float:
    """The longest wait for health while requests (method, address, body) are answered, one after another."""
    with Watch(service.port, service.process.popen.pid) as watch:
        for method, address, body in requests:
            with contextlib.suppress(TimeoutError):
                status, _ = ask(service.port, method, address, body.content, body.headers, timeout_s=PATIENCE_S)
                assert status != 500, (method, address)
        time.sleep(0.05)
    return watch.stall_s


def stalls(service: Service, requests: Mapping[str, tuple[str, str, Body]], allowed_s: float) -> dict[str, float]:
    """The requests that keep health waiting for too long; each is looked at by itself where all together do."""
    # A stall comes again, a busy machine seldom does.
    if any(stall_s(service, requests.values()) <= allowed_s for _ in range(2)):
        return {}
    longest = {name: min(stall_s(service, [request]) for _ in range(TRIES)) for name, request in requests.items()}
    return {name: found_s for name, found_s in longest.items() if found_s > allowed_s}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), READING)
def test_no_body_of_a_route_keeps_others_waiting(
    method: str, path: str, service: Service, bodies: dict[str, Body], allowed_s: float
) -> None:
    address = path + QUERIES.get(path, "")

    assert stalls(service, {name: (method, address, body) for name, body in bodies.items()}, allowed_s) == {}


def test_many_routes_read_a_body() -> None:
    assert len(READING) > 15


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_address_of_a_route_keeps_others_waiting(method: str, path: str, service: Service, allowed_s: float) -> None:
    long = "a" * 14_000
    queries = ["&".join(f"a{i}=1" for i in range(3000)), f"model={long}", "version=" + "9" * 14_000, "%00" * 5_000]
    nothing = Body(b"", {})
    requests = {f"query {number}": (method, f"{path}?{query}", nothing) for number, query in enumerate(queries)}
    requests["a long path"] = ("GET", f"{path}/{long}", nothing)

    assert stalls(service, requests, allowed_s) == {}
