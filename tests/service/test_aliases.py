"""Names such as `prod` for versions: what they mean, who gets the candidate, what a shadow says, and the way back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.api.app import App, create_app
from service.collections.store import open_store
from service.errors import NoFormerVersion, StoreUnavailable
from service.models.aliases import MAX_ALIASES, Alias
from service.settings import Settings
from tests.service.conftest import MakeClient, wait_for_models
from tests.service.files import png, to_npy
from tests.service.slowmodel import START_TIMEOUT_S, until
from tests.service.test_metrics import value
from tests.service.toymodels import publish_generator, publish_toy

LEVEL = png(np.full((4, 4), 200, np.uint8))
PROD = "/models/toy/aliases/prod"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("aliases")
    for version, factor in ((1, 0.5), (2, 0.25), (3, 0.75)):
        publish_toy(home / "models", version=version, factor=factor)
    publish_generator(home / "models")
    settings = {"models_dir": home / "models", "watch_interval_s": 3600, "device": "cpu", "old_versions": 0}
    settings["collections_url"] = f"sqlite:///{home / 'items.db'}"
    with TestClient(create_app(Settings.model_validate(settings)), raise_server_exceptions=False) as client:
        wait_for_models(client)
        yield client


@pytest.fixture
def client(shared: TestClient) -> TestClient:
    """One service for all tests; the aliases of those before are gone."""
    for found in shared.get("/models/toy/aliases").json()["aliases"]:
        shared.delete(f"/models/toy/aliases/{found['alias']}")
    return shared


def put(client: TestClient, alias: str = "prod", **body: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
    answer = client.put(f"/models/toy/aliases/{alias}", json=body)
    assert answer.status_code in {200, 201}, answer.text
    found: dict[str, Any] = answer.json()
    return found


def version_of(client: TestClient, *, path: str = "/denoise", model: str = "toy@prod", content: bytes = LEVEL) -> str:
    answer = client.post(f"{path}?model={model}", content=content)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-model"]


def pictures(count: int) -> list[bytes]:
    return [png(np.full((4, 4), i, np.uint8)) for i in range(count)]


def metric(client: TestClient, name: str, **labels: str) -> float:
    return value(client.get("/metrics").text, name, model="toy", **labels)


def test_an_alias_means_a_version_until_it_means_another(client: TestClient) -> None:
    created = client.put(PROD, json={"version": 1})
    before = version_of(client)
    changed = client.put(PROD, json={"version": 2})

    assert (created.status_code, changed.status_code) == (201, 200)
    assert (before, version_of(client)) == ("toy/1", "toy/2")
    assert client.get(PROD).json() == changed.json()
    assert changed.json() | {"updated": ""} == {
        **{"model": "toy", "alias": "prod", "version": 2, "candidate": None, "share": 0.0, "shadow": None},
        **{"former": 1, "updated": ""},
    }


def test_without_an_alias_the_newest_version_answers(client: TestClient) -> None:
    put(client, version=1)

    assert version_of(client, model="toy") == "toy/3"


@pytest.mark.parametrize("path", ["/denoise", "/encode", "/anomaly"])
def test_every_image_endpoint_takes_an_alias(client: TestClient, path: str) -> None:
    put(client, version=1)

    assert version_of(client, path=path) == "toy/1"


def test_latents_models_and_v2_take_an_alias_too(client: TestClient) -> None:
    put(client, version=1)
    tensor = {"name": "x", "shape": [1, 1, 4, 4], "datatype": "FP32", "data": [0.5] * 16}

    decoded = client.post("/decode?model=toy@prod", json={"latent": [0.0] * 4})
    between = client.post("/interpolate?model=toy@prod", json={"latents": [[0.0] * 4, [1.0] * 4]})
    manifest = client.get("/models/toy@prod")
    inferred = client.post("/v2/models/toy@prod.denoise/infer", json={"inputs": [tensor]})
    nothing = client.post("/v2/models/toy@prd.denoise/infer", json={"inputs": [tensor]})

    assert [answer.headers["x-model"] for answer in (decoded, between, manifest, inferred)] == ["toy/1"] * 4
    assert nothing.status_code == 404
    assert "it has prod" in nothing.json()["error"]


def test_a_collection_that_an_alias_makes_keeps_to_that_version(client: TestClient) -> None:
    put(client, version=1)
    made = client.put("/collections/parts/items/a?model=toy@prod", content=LEVEL)
    put(client, version=2)

    found = client.get("/collections/parts").json()
    again = client.put("/collections/parts/items/b?model=toy@prod", content=LEVEL)

    assert made.status_code == 201, made.text
    assert (found["model"], found["version"]) == ("toy", 1)
    assert (again.status_code, again.json()["code"]) == (409, "model-conflict")


@pytest.mark.parametrize(
    ("model", "status", "code", "says"),
    [
        ("toy@prd", 404, "alias-not-found", "it has prod, test"),
        ("prior@prod", 404, "alias-not-found", "it has none"),
        ("nothing@prod", 404, "model-not-found", "live models: prior, toy"),
        ("toy@", 404, "alias-not-found", "no alias ''"),
        ("toy@prod&version=1", 422, "invalid-parameter", "already names a version"),
    ],
)
def test_an_unknown_alias_is_answered_with_those_that_there_are(
    client: TestClient, model: str, status: int, code: str, says: str
) -> None:
    put(client, version=1)
    put(client, "test", version=3)

    answer = client.post(f"/denoise?model={model}", content=LEVEL)

    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"version": 9}, 404, "it has 1, 2, 3"),
        ({"version": 1, "candidate": 9, "share": 0.5}, 404, "it has 1, 2, 3"),
        ({"version": 1, "shadow": 9}, 404, "it has 1, 2, 3"),
        ({"version": 1, "candidate": 2}, 422, "candidate and share must be given together"),
        ({"version": 1, "share": 0.5}, 422, "candidate and share must be given together"),
        ({"version": 1, "candidate": 1, "share": 0.5}, 422, "must differ from version"),
        ({"version": 1, "candidate": 2, "share": 1.5}, 422, "share"),
        ({"version": "new"}, 422, "version"),
        ({"version": 1, "weight": 1}, 422, "weight"),
        ({}, 422, "version"),
    ],
)
def test_an_alias_that_cannot_be_is_refused_and_changes_nothing(
    client: TestClient, body: dict[str, object], status: int, says: str
) -> None:
    answer = client.put(PROD, json=body)

    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert "Value error" not in answer.json()["detail"]  # pydantic's words before ours
    assert client.get(PROD).status_code == 404


def test_a_candidate_gets_its_share_and_the_same_picture_always_meets_the_same_version(client: TestClient) -> None:
    sent = pictures(200)
    put(client, version=1, candidate=2, share=0.3)
    first = [version_of(client, content=picture) for picture in sent]
    again = [version_of(client, content=picture) for picture in sent]
    put(client, version=1, candidate=2, share=0.6)
    more = [version_of(client, content=picture) for picture in sent]

    assert first == again
    assert 30 <= first.count("toy/2") <= 90  # 60 expected; 200 digests are what they are, this cannot flicker
    assert all(later == "toy/2" for earlier, later in zip(first, more, strict=True) if earlier == "toy/2")
    assert more.count("toy/2") > first.count("toy/2")
    assert metric(client, "hourglass_alias_requests_total", alias="prod", role="candidate") >= first.count("toy/2") * 2


def test_shares_of_nothing_and_of_everything_are_exact(client: TestClient) -> None:
    put(client, version=1, candidate=2, share=0)
    none = {version_of(client, content=picture) for picture in pictures(20)}
    put(client, version=1, candidate=2, share=1)
    all_ = {version_of(client, content=picture) for picture in pictures(20)}

    assert (none, all_) == ({"toy/1"}, {"toy/2"})


def test_latents_meet_no_candidate(client: TestClient) -> None:
    put(client, version=1, candidate=2, share=1)

    assert {version_of(client, path="/encode", content=picture) for picture in pictures(5)} == {"toy/1"}
    decoded = client.post("/decode?model=toy@prod", content=to_npy(np.zeros(4, np.float32)))
    assert decoded.headers["x-model"] == "toy/1"


def test_a_roll_back_takes_the_candidate_away(client: TestClient) -> None:
    put(client, version=1)
    put(client, version=2, candidate=3, share=1, shadow=1)

    back = client.post(f"{PROD}/rollback").json()

    assert (back["version"], back["candidate"], back["share"], back["shadow"]) == (2, None, 0, None)
    assert version_of(client) == "toy/2"


def test_a_roll_back_without_a_candidate_goes_to_the_version_before(client: TestClient) -> None:
    put(client, version=1)
    put(client, version=2)
    put(client, version=2, shadow=3)

    back = client.post(f"{PROD}/rollback").json()

    assert (back["version"], back["shadow"]) == (1, None)
    assert version_of(client) == "toy/1"


@pytest.mark.parametrize("change", [{"version": 2}, {"version": 2, "candidate": 3, "share": 0.5}])
def test_a_roll_back_that_is_sent_twice_goes_one_step(client: TestClient, change: dict[str, Any]) -> None:
    put(client, version=1)
    put(client, **change)
    once = client.post(f"{PROD}/rollback").json()

    again = client.post(f"{PROD}/rollback")

    assert (again.status_code, again.json()["code"]) == (409, "no-former-version")
    assert client.get(PROD).json() == once


def test_the_shadow_of_a_detector_is_compared_by_score_and_verdict(client: TestClient) -> None:
    put(client, "scored", version=1, shadow=2)

    answered = version_of(client, path="/anomaly", model="toy@scored")

    def compared() -> bool:
        return metric(client, "hourglass_shadow_requests_total", alias="scored", outcome="compared") == 1

    until(compared, START_TIMEOUT_S)
    assert answered == "toy/1"
    # Both versions score the square of every pixel, (200/255)^2 = 0.62: half way up their calibration.
    assert metric(client, "hourglass_shadow_verdicts_total", alias="scored", verdict="good", shadow="good") == 1
    assert metric(client, "hourglass_shadow_score_difference_count", alias="scored") == 1
    assert metric(client, "hourglass_shadow_score_difference_sum", alias="scored") == 0


def test_the_shadow_of_a_denoiser_is_compared_by_psnr(client: TestClient) -> None:
    put(client, "drawn", version=1, shadow=2)

    assert version_of(client, model="toy@drawn") == "toy/1"
    until(lambda: metric(client, "hourglass_shadow_psnr_db_count", alias="drawn") == 1, START_TIMEOUT_S)
    # 200 becomes 100 and 50: an error of 50/255 everywhere.
    psnr_db = metric(client, "hourglass_shadow_psnr_db_sum", alias="drawn")
    assert psnr_db == pytest.approx(-20 * np.log10(50 / 255), abs=1e-3)


def test_a_shadow_is_dropped_where_others_wait(client: TestClient) -> None:
    put(client, "busy", version=1, shadow=2)
    app = client.app
    assert isinstance(app, App)
    admission = app.service.admission
    admission.images += admission.max_images // 2
    try:
        assert version_of(client, model="toy@busy") == "toy/1"
    finally:
        admission.images -= admission.max_images // 2

    assert metric(client, "hourglass_shadow_requests_total", alias="busy", outcome="dropped") == 1


def test_a_model_has_sixteen_aliases_at_most(client: TestClient) -> None:
    for i in range(MAX_ALIASES):
        put(client, f"a{i}", version=1)

    answer = client.put("/models/toy/aliases/more", json={"version": 1})

    assert (answer.status_code, answer.json()["code"]) == (409, "too-many-aliases")


def test_names_of_aliases_are_plain(client: TestClient) -> None:
    assert [client.put(f"/models/toy/aliases/{alias}", json={"version": 1}).status_code for alias in ("A", "a@b")] == [
        422,
        422,
    ]


def test_a_deleted_alias_is_gone(client: TestClient) -> None:
    put(client, version=1)

    first, second = client.delete(PROD), client.delete(PROD)

    assert (first.status_code, second.status_code) == (204, 404)
    assert client.post("/denoise?model=toy@prod", content=LEVEL).status_code == 404


def test_questions_make_no_database(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()

    listed = client.get("/models/toy/aliases").json()
    codes = [client.get(PROD).status_code, client.post(f"{PROD}/rollback").status_code, client.delete(PROD).status_code]

    assert listed == {"model": "toy", "aliases": []}
    assert codes == [404, 404, 404]
    assert client.get("/models/none/aliases").status_code == 404
    assert not (models_dir.parent / "collections").exists()


def test_aliases_outlive_the_service_and_their_versions_are_loaded_at_its_start(
    models_dir: Path, make_client: MakeClient
) -> None:
    for version in (1, 2, 3):
        publish_toy(models_dir, version=version)
    put(make_client(old_versions=0), version=1, candidate=2, share=0.5)

    again = make_client(old_versions=0)

    app = again.app
    assert isinstance(app, App)
    until(lambda: app.service.registry.aliases is not None, START_TIMEOUT_S)
    until(lambda: len(app.service.registry.serving) == 3, START_TIMEOUT_S)
    assert version_of(again) in {"toy/1", "toy/2"}


def test_a_version_that_an_alias_names_stays_loaded_when_a_newer_one_goes_live(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir)
    client = make_client(watch_interval_s=0.02, old_versions=0)
    put(client, version=1)
    app = client.app
    assert isinstance(app, App)
    before = app.service.registry.snapshot.model_by_name["toy"]

    publish_toy(models_dir, version=2)

    until(lambda: version_of(client, model="toy") == "toy/2", START_TIMEOUT_S)
    assert version_of(client) == "toy/1"
    assert before in app.service.registry.serving


def test_another_worker_follows(models_dir: Path, make_client: MakeClient) -> None:
    for version in (1, 2):
        publish_toy(models_dir, version=version)
    one, other = make_client(), make_client(watch_interval_s=0.02)
    put(one, version=1)

    until(lambda: other.post("/denoise?model=toy@prod", content=LEVEL).status_code == 200, START_TIMEOUT_S)
    one.post(f"{PROD}/rollback")
    put(one, version=2)
    until(lambda: version_of(other) == "toy/2", START_TIMEOUT_S)


def test_known_aliases_work_on_where_the_database_is_away(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2):
        publish_toy(models_dir, version=version)
    client = make_client(watch_interval_s=0.02)
    put(client, version=1)

    def away(_: object) -> list[Alias]:
        asked.append(1)
        raise StoreUnavailable("away")

    asked: list[int] = []
    monkeypatch.setattr("service.collections.store.aliases.AliasTable.all", away)
    until(lambda: len(asked) > 1, START_TIMEOUT_S)

    assert version_of(client) == "toy/1"
    assert client.get("/models/toy/aliases").status_code == 503


def test_only_a_key_of_an_administrator_changes_aliases(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    keys = {"admin": "a" * 16, "write": "w" * 16, "read": "r" * 16}
    client = make_client(api_keys=[keys["admin"]], write_keys=[keys["write"]], read_keys=[keys["read"]])

    def status(method: str, path: str, right: str) -> int:
        body = {"version": 1} if method == "PUT" else None
        return client.request(method, path, json=body, headers={"X-API-Key": keys[right]}).status_code

    assert [status("PUT", PROD, right) for right in ("read", "write", "admin")] == [403, 403, 201]
    assert [status("POST", f"{PROD}/rollback", right) for right in ("read", "write", "admin")] == [403, 403, 409]
    assert [status("GET", PROD, right) for right in ("read", "write", "admin")] == [200] * 3
    assert [status("DELETE", PROD, right) for right in ("read", "write", "admin")] == [403, 403, 204]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_database_keeps_aliases_alike(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'items.db'}"
    if database == "postgres":
        url = request.getfixturevalue("postgres_url")
    store = open_store(url)
    table = store.aliases

    first, is_new = table.put(Alias("hazelnut", "prod", 1))
    second, is_new_again = table.put(Alias("hazelnut", "prod", 2, candidate=3, share=0.25, shadow=1))
    table.put(Alias("hazelnut", "prod", 2))
    back = table.roll_back("hazelnut", "prod")

    assert (is_new, is_new_again) == (True, False)
    assert (first.former, second.former, second.share) == (None, 1, 0.25)
    assert (back.version, back.former) == (1, None)
    assert table.all() == [table.get("hazelnut", "prod")] == [back]
    with pytest.raises(NoFormerVersion):
        table.roll_back("hazelnut", "prod")
    table.remove("hazelnut", "prod")
    assert table.all() == []
    store.close()
