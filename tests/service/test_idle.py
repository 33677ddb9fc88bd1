"""Graphs that nobody asks leave memory, and come back with the next request."""

from pathlib import Path

import numpy as np
import pytest

from service.limits import run_limits
from service.models.loading import load_model
from service.models.model import Model
from service.models.session import start_provider
from service.settings import Settings
from tests.service.conftest import MakeClient
from tests.service.files import png
from tests.service.test_registry import answer, wait_until
from tests.service.toymodels import publish_toy

LEVEL = png(np.full((4, 4), 200, np.uint8))


@pytest.fixture
def model(models_dir: Path) -> Model:
    publish_toy(models_dir)
    return load_model(models_dir / "toy/1", provider=start_provider("cpu"), limits=run_limits(Settings()))


def test_a_model_that_was_just_used_stays_open(model: Model) -> None:
    assert not model.close_idle(3600)
    assert model.is_open


def test_an_idle_model_closes_once(model: Model) -> None:
    assert model.close_idle(0)
    assert not model.is_open
    assert not model.close_idle(0)


def test_a_closed_model_answers_as_before(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(idle_model_s=0.01, watch_interval_s=0.02)
    before = answer(client)
    registry = client.app.service.registry  # type: ignore[attr-defined]
    wait_until(lambda: not registry.snapshot.model_by_name["toy"].is_open)

    assert answer(client) == before


def test_a_graph_that_changed_while_it_was_closed_is_not_run(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()  # looks at the directory once an hour
    assert client.app.service.registry.snapshot.model_by_name["toy"].close_idle(0)  # type: ignore[attr-defined]
    (models_dir / "toy/1/denoise.onnx").write_bytes(b"something else")

    reply = client.post("/denoise", content=LEVEL)

    assert (reply.status_code, reply.json()["code"]) == (503, "not-ready")
    assert "it was changed" in reply.json()["detail"]
