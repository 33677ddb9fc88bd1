"""What `/metrics` says is what has happened, whichever worker is asked."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.api.app import App
from service.api.prometheus import LEAST_SCORES
from service.api.shared_call import SharedCall
from service.tasks.anomaly.drift import drift, drift_by_chance
from service.telemetry.counters import FAMILIES, MAX_LABEL_SETS, Histogram, Meters, Spent, State
from service.telemetry.multiprocess import SharedCounters
from tests.service.conftest import MakeClient
from tests.service.files import png, to_npy
from tests.service.rawclient import RawClient, get, post
from tests.service.slowmodel import flat_png, service_process, until
from tests.service.toymodels import publish_toy

IMAGE = png(np.full((4, 4), 100, np.uint8))
Labels = tuple[tuple[str, str], ...]


def read(page: str) -> dict[tuple[str, Labels], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(page: str, name: str, **labels: str) -> float:
    return read(page).get((name, tuple(sorted(labels.items()))), 0.0)


@pytest.fixture
def toy(models_dir: Path, make_client: MakeClient) -> TestClient:
    publish_toy(models_dir)
    return make_client()


def test_requests_are_counted_by_route_method_and_status(toy: TestClient) -> None:
    for _ in range(3):
        toy.post("/denoise", content=IMAGE)
    toy.post("/denoise?nonsense=1", content=IMAGE)
    toy.get("/models/toy")
    toy.get("/models/none")
    for i in range(4):
        toy.get(f"/nowhere/{i}")
    toy.request("BREW", "/denoise")
    page = toy.get("/metrics").text

    assert value(page, "hourglass_requests_total", route="/denoise", method="POST", status="200") == 3
    assert value(page, "hourglass_requests_total", route="/denoise", method="POST", status="422") == 1
    assert value(page, "hourglass_requests_total", route="/models/{name}", method="GET", status="200") == 1
    assert value(page, "hourglass_requests_total", route="/models/{name}", method="GET", status="404") == 1
    assert value(page, "hourglass_requests_total", route="other", method="GET", status="404") == 4
    assert value(page, "hourglass_requests_total", route="/denoise", method="other", status="405") == 1
    assert value(page, "hourglass_request_seconds_count", route="/denoise") == 5
    assert value(page, "hourglass_failures_total", code="route-not-found") == 4
    assert value(page, "hourglass_failures_total", code="model-not-found") == 1
    assert value(page, "hourglass_failures_total", code="invalid-parameter") == 1


def test_every_file_and_its_problem_is_counted(toy: TestClient) -> None:
    files = [("file", ("a.png", IMAGE)), ("file", ("b.png", IMAGE[:40])), ("file", ("c.png", IMAGE))]
    toy.post("/denoise", files=files)
    toy.post("/denoise", content=to_npy(np.full((5, 1, 4, 4), 0.5, np.float32)))
    page = toy.get("/metrics").text

    assert value(page, "hourglass_images_total", model="toy", task="denoise") == 7
    assert value(page, "hourglass_failures_total", code="broken-image") == 1
    assert value(page, "hourglass_queue_seconds_count", model="toy", task="denoise") == 4
    assert value(page, "hourglass_batch_images_count", model="toy", task="denoise") == 2
    assert value(page, "hourglass_batch_images_sum", model="toy", task="denoise") == 7
    for stage in ("decode", "compute", "encode"):
        assert value(page, f"hourglass_{stage}_seconds_count", model="toy", task="denoise") == 2
        assert value(page, f"hourglass_{stage}_seconds_sum", model="toy", task="denoise") > 0


def test_a_request_refused_without_a_key_is_counted(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(api_keys="a-key-of-sixteen-letters")
    assert client.get("/metrics").status_code == 401

    page = client.get("/metrics", headers={"X-API-Key": "a-key-of-sixteen-letters"}).text

    assert value(page, "hourglass_requests_total", route="/metrics", method="GET", status="401") == 1
    assert value(page, "hourglass_failures_total", code="missing-api-key") == 1


def test_both_forms_parse_and_hold_every_family(toy: TestClient) -> None:
    toy.post("/anomaly", content=IMAGE)
    plain = toy.get("/metrics")
    openmetrics = toy.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"})

    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(openmetrics.text)}  # type: ignore[no-untyped-call]  # its own
    assert set(FAMILIES) <= names
    assert {name.removesuffix("_total") for name, _ in read(plain.text)} == {
        name.removesuffix("_total") for name, _ in read(openmetrics.text)
    }
    assert toy.get("/metrics", headers={"Accept": "image/png"}).status_code == 406


def test_the_page_tells_what_is_live_and_what_is_not(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, version=1)
    (publish_toy(models_dir, version=2) / "denoise.onnx").write_bytes(b"")
    page = make_client(max_queue_images=7).get("/metrics").text

    live = {"model": "toy", "version": "1", "provider": "CPUExecutionProvider"}
    assert value(page, "hourglass_model_info", **live) == 1
    assert value(page, "hourglass_rejected_versions") == 1
    assert value(page, "hourglass_queue_limit_images") == 7
    assert value(page, "hourglass_queue_images") == 0
    assert value(page, "process_resident_memory_bytes", worker="0") > 2**20


def test_many_names_of_models_and_aliases_do_not_grow_the_page(toy: TestClient) -> None:
    app = toy.app
    assert isinstance(app, App)
    meters = app.service.metrics.meters

    def size_after(names: range) -> int:
        for i in names:
            meter = meters.graph(f"model{i:05}", 1, "anomaly")
            meter.record(Spent(decode_s=1.0, encode_s=1.0, runs=[(1, 1.0)], scores=[1.0], failed=1), [meter.came()])
            meter.waited([meter.came()])
            for verdict in ("good", "anomalous"):
                meters.count("hourglass_shadow_verdicts", f"model{i:05}", "prod", verdict, verdict)
            meters.count("hourglass_alias_requests", f"model{i:05}", "prod", "version")
        return len(toy.get("/metrics").content)

    few, many = size_after(range(MAX_LABEL_SETS)), size_after(range(MAX_LABEL_SETS, 4000))

    page = toy.get("/metrics").text
    assert many < few + 10_000  # one more label set of each family, and longer numbers
    assert many < 400_000
    assert value(page, "hourglass_images_total", model="other", task="other") == 4000 - (
        MAX_LABEL_SETS - 4
    )  # `toy` has four


def test_many_addresses_methods_and_queries_do_not_grow_the_page(toy: TestClient) -> None:
    def size_after(numbers: range) -> int:
        for i in numbers:
            toy.get(f"/nowhere/{i}")
            toy.request(f"BREW{i}", "/denoise")
            toy.get(f"/models/m{i}")
            toy.post(f"/denoise?model=toy@a{i}", content=IMAGE)
            toy.get(f"/jobs/j{i}")
        return len(toy.get("/metrics").content)

    _, few, many = (
        size_after(range(2)),
        size_after(range(2, 4)),
        size_after(range(4, 100)),
    )  # the first page counts next

    assert many < few + 1000  # longer numbers


def test_graphs_that_nobody_has_asked_have_no_histograms(toy: TestClient) -> None:
    page = toy.get("/metrics").text

    assert "hourglass_compute_seconds_bucket" not in page
    assert len(page) < 20_000


def test_a_worker_that_goes_on_from_the_counts_of_another_keeps_to_the_bound() -> None:
    before = Meters()
    for i in range(2 * MAX_LABEL_SETS):
        before.count("hourglass_alias_requests", f"model{i}", "prod", "version")

    after = Meters(before.state({}, []))

    assert after.values == before.values
    assert len(after.values) == MAX_LABEL_SETS + 1


def test_a_histogram_counts_a_value_at_its_bound_below_it() -> None:
    histogram = Histogram((1.0, 2.0))

    for seconds in (0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(seconds)

    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 104.0


def test_drift_is_the_kolmogorov_smirnov_distance() -> None:
    calibration = [float(i) for i in range(1, 10)]  # n + 1 = 10

    # p is 0.1 for everything above 9: the step from 0 to 1 at 0.1 lies 0.9 above the diagonal.
    assert drift([100.0] * 50, calibration) == pytest.approx(0.9)
    # p is 1 for everything at most 1: just before 1, none of them is reached.
    assert drift([0.0] * 50, calibration) == pytest.approx(1.0)
    # p of the calibration itself is 0.2, 0.3 ... 1.0, in nine steps of 1/9: farthest from i/9 just before 0.2.
    assert drift(calibration, calibration) == pytest.approx(0.2)


def test_drift_of_normal_images_is_small_and_of_others_is_not() -> None:
    rng = np.random.default_rng(0)
    calibration = np.sort(rng.normal(size=5000)).tolist()

    assert drift(rng.normal(size=500).tolist(), calibration) < 0.0728  # 1.628 / sqrt(500): exceeded once in 100
    # Two normals a standard deviation apart: at most 2 Phi(1/2) - 1 = 0.383, reached halfway.
    assert drift(rng.normal(1, size=500).tolist(), calibration) == pytest.approx(0.383, abs=0.0728)


@pytest.mark.parametrize("images", [10, 30, 300])
def test_chance_alone_rarely_makes_more_drift_than_is_said(images: int) -> None:
    rng = np.random.default_rng(0)
    limit = drift_by_chance(500, images)
    drifts = [drift(rng.normal(size=500).tolist(), np.sort(rng.normal(size=images)).tolist()) for _ in range(200)]

    # The bound is asymptotic, so for few images it is a little too wide; 5 of 100 are 10, plus three deviations of 3.1.
    assert sum(seen > limit for seen in drifts) <= 20
    assert max(drifts) > 0.6 * limit
    assert max(drifts) < 1.5 * limit  # what the alert asks for: 5 of 10,000


def test_scores_and_their_drift_are_told_once_there_are_enough(toy: TestClient) -> None:
    dark = to_npy(np.zeros((LEAST_SCORES - 1, 1, 4, 4), np.float32))  # its score is 0, and p is 1
    toy.post("/anomaly", content=dark)
    before = toy.get("/metrics").text
    toy.post("/anomaly", content=IMAGE)  # its score is (100/255)^2 = 0.154; 83 of the calibration are above
    page = toy.get("/metrics").text

    assert ("hourglass_anomaly_drift", (("model", "toy"), ("version", "1"))) not in read(before)
    assert value(page, "hourglass_anomaly_score_count", model="toy") == LEAST_SCORES
    assert value(page, "hourglass_anomaly_score_bucket", model="toy", le="0.1") == LEAST_SCORES - 1
    assert value(page, "hourglass_anomaly_drift_scores", model="toy", version="1") == LEAST_SCORES
    assert value(page, "hourglass_anomaly_drift_chance", model="toy", version="1") == pytest.approx(
        0.1928, abs=1e-4
    )  # 1.36 sqrt(.0201)
    assert value(page, "hourglass_anomaly_drift", model="toy", version="1") == pytest.approx(
        0.99
    )  # one p in 100 lies below 1


def test_what_the_protocol_refuses_is_counted_once(models_dir: Path) -> None:
    publish_toy(models_dir)
    with service_process(models_dir, "--body-timeout-s", "0.3") as process:
        with RawClient(process.port) as client:
            client.send(b"NONSENSE\r\n\r\n")
            assert client.reply().status == 400
        with RawClient(process.port) as client:
            client.send_head("/denoise", len(IMAGE))
            assert client.reply().status == 408
        until(lambda: "request-timeout" in get(process.port, "/metrics").body.decode())
        page = get(process.port, "/metrics").body.decode()

    assert value(page, "hourglass_requests_total", route="other", method="other", status="400") == 1
    assert value(page, "hourglass_requests_total", route="/denoise", method="POST", status="408") == 1
    assert value(page, "hourglass_failures_total", code="malformed-request") == 1
    assert value(page, "hourglass_failures_total", code="request-timeout") == 1


def test_drift_is_that_of_the_scores_of_all_workers(models_dir: Path) -> None:
    publish_toy(models_dir)
    bodies = [to_npy(np.full((20, 1, 4, 4), level, np.float32)) for level in (0.0, 0.5)]  # p is 1, and 0.75
    with service_process(models_dir, workers=2) as process:

        def seen(name: str) -> float:
            return value(get(process.port, "/metrics").body.decode(), name, model="toy", version="1")

        for i in range(20):  # each on a connection of its own, so both workers get some
            assert post(process.port, "/anomaly", bodies[i % 2]).status == 200
        until(lambda: seen("hourglass_anomaly_drift_scores") == 400)
        told = [seen("hourglass_anomaly_drift") for _ in range(10)]

    assert told == pytest.approx([0.75] * 10)  # just before 0.75, no score of the 400 has been reached


@pytest.mark.slow
def test_any_worker_answers_for_all_and_counters_survive_a_worker(models_dir: Path) -> None:
    publish_toy(models_dir)
    with service_process(models_dir, workers=2) as process:
        port, sent = process.port, 60

        def counted() -> float:
            page = get(port, "/metrics").body.decode()
            return value(page, "hourglass_requests_total", route="/denoise", method="POST", status="200")

        for _ in range(sent):  # each on a connection of its own, so both workers get some
            assert post(port, "/denoise", flat_png(4)).status == 200
        until(lambda: counted() == sent)
        pages = [get(port, "/metrics").body.decode() for _ in range(20)]
        os.kill(process.pids[0], signal.SIGKILL)
        process.wait_for_servers(3)
        afterwards = [counted() for _ in range(20)]
        assert process.stop() == 0

    for page in pages:
        assert value(page, "hourglass_requests_total", route="/denoise", method="POST", status="200") == sent
        assert {dict(labels)["worker"] for name, labels in read(page) if name == "process_open_fds"} == {"0", "1"}
        assert value(page, "hourglass_queue_limit_images") == 512
    assert afterwards == [sent] * 20


@pytest.mark.parametrize("is_swept", [True, False])
def test_counters_that_cannot_be_shared_are_still_told(tmp_path: Path, is_swept: bool) -> None:
    place = tmp_path / "counters"
    shared, state = SharedCounters(place, 0), State({("hourglass_queue_images",): 3.0}, {}, {})
    if not is_swept:
        place.write_bytes(b"")  # no folder can be here, as on a disk that is full

    assert shared.share(state).values == state.values
    assert (shared.read_own() is not None) == is_swept


@pytest.mark.parametrize("content", [b"", b"{", b"{}"])
def test_counters_that_are_half_there_are_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.json").write_bytes(content)

    state = State({("hourglass_queue_images",): 3.0}, {}, {})

    assert SharedCounters(tmp_path, 0).share(state).values == state.values


def test_scrapes_of_the_same_time_share_a_page_that_none_of_them_finds_stale() -> None:
    started = 0

    async def build() -> int:
        nonlocal started
        started += 1
        found = started
        for _ in range(10):
            await asyncio.sleep(0)
        return found

    async def scrape() -> list[int]:
        shared = SharedCall(build)
        first = asyncio.create_task(shared.result())
        while not started:
            await asyncio.sleep(0)
        others = [asyncio.create_task(shared.result()) for _ in range(20)]
        others.pop().cancel()
        return await asyncio.gather(first, *others)

    assert asyncio.run(scrape()) == [1] + [2] * 19
