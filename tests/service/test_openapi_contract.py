"""The service keeps what its API page promises, whatever is sent: requests made up by schemathesis."""

from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import BaseSchema
from starlette.testclient import TestClient

from service.api.app import create_app
from service.images.formats import FORMATS
from service.media_types import HOURGLASS_TYPE
from service.settings import Settings
from tests.conftest import DATA
from tests.service.files import save, to_npy
from tests.service.toymodels import LATENT_DIM, publish_codec, publish_generator, publish_toy

GREY = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
PICTURES = {entry.media_type: save(Image.fromarray(GREY), entry.name) for entry in FORMATS}
ARRAYS = (
    to_npy(GREY),
    to_npy(np.full((3, 1, 4, 4), 0.5, np.float32)),
    to_npy(np.zeros((2, LATENT_DIM), np.float32)),
    to_npy(np.array(["text"])),
)
BROKEN = (PICTURES["image/png"][:50], b"\x89PNG\r\n\x1a\n", b"<html>", b"\0")
SHEET = (DATA / "mnist_test_500.png").read_bytes()

for kind, picture in PICTURES.items():
    schemathesis.openapi.media_type(kind, st.sampled_from([picture, SHEET, *PICTURES.values(), *BROKEN]))
schemathesis.openapi.media_type("application/x-npy", st.sampled_from([*ARRAYS, ARRAYS[0][:-3], *BROKEN]))
schemathesis.openapi.format("binary", st.sampled_from([*PICTURES.values(), *ARRAYS, *BROKEN]))


# All checks are on. These refusals are fair answers to valid data: no schema can say that a picture is damaged (415,
# 422), that a model has 4 latents or what a collection holds (409). 406 is not among them, and an error of the server
# never is.
CONFIG = {
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "404", "409", "413", "415", "422"]}}
}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> BaseSchema:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    publish_generator(directory, tasks=["generate"])
    publish_codec(directory)
    options = Settings(
        models_dir=directory,
        watch_interval_s=3600,
        device="cpu",
        collections_url=SecretStr(f"sqlite:///{directory}/items.db"),
    )
    with TestClient(create_app(options)) as client:
        file = client.post("/compress", content=PICTURES["image/png"]).content
    others = (file[:-1], file[:4] + bytes(len(file) - 4), *BROKEN)
    schemathesis.openapi.media_type(HOURGLASS_TYPE, st.sampled_from([file, *others]))
    return schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(options), config=SchemathesisConfig.from_dict(CONFIG)
    )


EXAMPLES = 60
OPERATIONS = (
    ("POST", "/denoise"),
    ("POST", "/encode"),
    ("POST", "/decode"),
    ("POST", "/anomaly"),
    ("POST", "/enhance"),
    ("POST", "/generate"),
    ("POST", "/interpolate"),
    ("POST", "/compress"),
    ("POST", "/decompress"),
    ("GET", "/collections"),
    ("GET", "/collections/{collection}"),
    ("DELETE", "/collections/{collection}"),
    ("GET", "/collections/{collection}/items"),
    ("PUT", "/collections/{collection}/items/{id}"),
    ("GET", "/collections/{collection}/items/{id}"),
    ("DELETE", "/collections/{collection}/items/{id}"),
    ("POST", "/collections/{collection}/search"),
    ("POST", "/collections/{collection}/classify"),
    ("GET", "/models"),
    ("GET", "/models/{name}"),
    ("GET", "/models/{name}/card"),
    ("GET", "/models/{name}/preview"),
    ("GET", "/models/{name}/aliases"),
    ("GET", "/models/{name}/aliases/{alias}"),
    ("PUT", "/models/{name}/aliases/{alias}"),
    ("DELETE", "/models/{name}/aliases/{alias}"),
    ("POST", "/models/{name}/aliases/{alias}/rollback"),
    ("GET", "/models/{name}/feedback"),
    ("POST", "/models/{name}/feedback"),
    ("DELETE", "/models/{name}/feedback"),
    ("DELETE", "/models/{name}/feedback/{id}"),
    ("POST", "/models/{name}/training"),
    ("GET", "/models/{name}/training"),
    ("GET", "/jobs/{id}"),
    ("DELETE", "/jobs/{id}"),
    ("GET", "/jobs/{id}/result"),
    ("GET", "/jobs/{id}/events"),
    ("GET", "/models/{name}/training/{id}"),
    ("DELETE", "/models/{name}/training/{id}"),
    ("POST", "/models/{name}/training/{id}/approve"),
    ("POST", "/training/lease"),
    ("POST", "/training/{id}/report"),
    ("POST", "/training/{id}/end"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
)
# Nothing to be wrong in these.
WITHOUT_INPUT = (
    ("GET", "/collections"),
    ("GET", "/models"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
)


def test_no_operation_is_left_out(schema: BaseSchema) -> None:
    found = {(method.upper(), path) for path, item in schema.items() for method in item}

    assert found == set(OPERATIONS)


# schemathesis' own decorator for fixtures fails in pytest 9.2, so this asks it for requests only.
@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_every_answer_to_a_valid_request_is_one_that_the_api_page_promises(
    schema: BaseSchema, method: str, path: str
) -> None:
    ask_much(schema, method, path, GenerationMode.POSITIVE)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), [o for o in OPERATIONS if o not in WITHOUT_INPUT], ids=lambda part: part)
def test_every_answer_to_an_invalid_request_is_one_that_the_api_page_promises(
    schema: BaseSchema, method: str, path: str
) -> None:
    ask_much(schema, method, path, GenerationMode.NEGATIVE)


def ask_much(schema: BaseSchema, method: str, path: str, mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES // 4 if path.startswith("/collections") else EXAMPLES,  # they are many
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(schema[path][method].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate()

    ask()
