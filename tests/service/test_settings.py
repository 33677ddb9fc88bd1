"""Settings: from the environment and the command line, each wrong one named at start; and the process itself."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import InvalidSettings, ProviderUnavailable
from service.models.provider import CPU
from service.models.session import start_provider
from service.settings import PREFIX, Settings, read_settings
from tests.service.files import pixels_of, png
from tests.service.slowmodel import START_TIMEOUT_S
from tests.service.toymodels import publish_toy

ROOT = Path(__file__).parents[2]


def read(tmp_path: Path, environ: dict[str, str] | None = None, argv: list[str] | None = None) -> Settings:
    return read_settings({f"{PREFIX}MODELS_DIR": str(tmp_path), **(environ or {})}, argv or [])


def test_variables_and_flags_set_what_they_name(tmp_path: Path) -> None:
    settings = read(tmp_path, {"HOURGLASS_THREADS": "2", "HOURGLASS_PORT": "1"}, ["--port", "2", "--device", "cpu"])

    assert (settings.threads, settings.port, settings.device) == (2, 2, "cpu")


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert read(tmp_path, {"HOURGLASS_PORT": ""}).port == 8000


def test_an_unknown_variable_names_itself_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="HOURGLASS_MAX_PIXEL; did you mean HOURGLASS_MAX_PIXELS"):
        read(tmp_path, {"HOURGLASS_MAX_PIXEL": "1"})


@pytest.mark.parametrize("url", ["mysql://u:secret@h/n", "sqlite://secret.db", "secret.db", "sqlite:///secret?mode=ro"])
def test_a_wrong_database_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        InvalidSettings, match=r"HOURGLASS_COLLECTIONS_URL is not usable: .*sqlite:///FOLDER/FILE"
    ) as caught:
        read(tmp_path, {"HOURGLASS_COLLECTIONS_URL": url})

    assert "secret" not in str(caught.value)
    assert "alue error" not in str(caught.value)  # pydantic's words before ours


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "70000"), ("DEVICE", "gpu"), ("THREADS", "0"), ("GRACE_S", "-1"), ("ACCESS_LOG", "x")],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(InvalidSettings, match=f"HOURGLASS_{name} is '{value}': ."):
        read(tmp_path, {f"HOURGLASS_{name}": value})


def test_a_wrong_flag_is_named_as_a_flag(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="--max-pixels is 'many'"):
        read(tmp_path, argv=["--max-pixels", "many"])


def test_a_models_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"models_dir: 'no/where' is not a directory \(looked from /"):
        read(tmp_path, {"HOURGLASS_MODELS_DIR": "no/where"})


def test_cuda_without_a_cuda_provider_refuses_to_start_with_the_cure() -> None:
    if start_provider("auto") != CPU:
        pytest.skip("this machine has CUDA")

    with pytest.raises(ProviderUnavailable, match=r"pip install 'onnxruntime-gpu.*or set device=cpu"):
        start_provider("cuda")


def test_every_limit_stands_on_the_page_about_security() -> None:
    page = (ROOT / "docs/security.md").read_text()

    limits = [
        name for name in Settings.model_fields if name.startswith("max_") or name.endswith(("_bytes", "timeout_s"))
    ]
    assert [name for name in limits if f"`{name}`" not in page] == []
    assert len(limits) >= 8


# --- the process ---


def start(*flags: str, **environ: str) -> subprocess.Popen[str]:
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}, **environ}
    command = [sys.executable, "-m", "service", *flags]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextlib.contextmanager
def running(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = start("--port", "0", *flags)
    try:
        assert process.stdout
        for line in process.stdout:
            if found := re.search(r"running on (http://\S+)", line):
                yield process, found[1]
                break
        else:
            pytest.fail("the server never said where it listens")
    finally:
        process.kill()
        process.communicate()


def test_the_server_answers_and_ends_with_0_on_sigterm(models_dir: Path) -> None:
    publish_toy(models_dir)

    with running("--models-dir", str(models_dir), "--grace-s", "3600") as (process, url):
        body = png(np.full((4, 4), 100, np.uint8))
        with urllib.request.urlopen(f"{url}/denoise", body, timeout=START_TIMEOUT_S) as response:
            assert "server" not in response.headers
            assert (pixels_of(response.read()) == 50).all()
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=START_TIMEOUT_S) == 0  # long before the hour that requests would have


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        ([], {"HOURGLASS_MODELDIR": "x"}, "there is no setting HOURGLASS_MODELDIR; did you mean HOURGLASS_MODELS_DIR"),
        (["--port", "none"], {}, "--port is 'none'"),
        (["--models-dir", "/nonexistent"], {}, "is not a directory"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_2_and_one_sentence(
    flags: list[str], environ: dict[str, str], message: str
) -> None:
    output, _ = (process := start(*flags, **environ)).communicate(timeout=START_TIMEOUT_S)

    assert process.returncode == 2
    assert message in output
    assert "Traceback" not in output


def test_help_teaches_every_setting() -> None:
    output, _ = (process := start("--help", COLUMNS="200")).communicate(timeout=START_TIMEOUT_S)

    assert process.returncode == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in output


@pytest.mark.parametrize("package", ["service.models.session", "training.export"])
def test_onnxruntime_reports_nothing_and_leaves_nothing_at_home(package: str, tmp_path: Path) -> None:
    code = f"import numpy, {package}; from service.models.session import start_provider; start_provider('cpu')"
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**environ, "HOME": str(tmp_path)}, check=True)

    assert [path for path in tmp_path.rglob("*") if "icrosoft" in str(path)] == []


def test_the_service_loads_nothing_of_pytorch_or_training() -> None:
    code = (
        "import sys, service.__main__; "
        "print([m for m in sys.modules if m.split('.')[0] in {'torch', 'torchvision', 'training', 'onnx'}])"
    )

    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert output.stdout.strip() == "[]"
