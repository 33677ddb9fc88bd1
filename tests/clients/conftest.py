"""A service that the clients' tests share."""

from collections.abc import Iterator

import pytest

from tests.service.slowmodel import service_process
from tests.service.toymodels import publish_toy


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a service with one toy model; modules that need others have a fixture of this name."""
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    with service_process(directory) as process:
        yield process.url
