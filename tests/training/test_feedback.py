"""The next version of a model from what people said of pictures, fetched from a running service."""

import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.contract.manifest import Manifest
from tests.service.slowmodel import Process, service_process
from tests.training.test_fit_anomaly import QUICK, read_manifest, write_stripes
from training.__main__ import main
from training.errors import DataError
from training.feedback import fetch_feedback

KEYS = {"read": "reads-and-no-more-1", "write": "writes-feedback-too-1", "admin": "does-everything-123"}
GOOD, FINE, DEFECTS, MARKED = 60, 30, 4, 3


def say(service: Process, verdict: str, picture: Path, mask: Path | None = None) -> None:
    files = {"file": picture.read_bytes()} | ({"mask": mask.read_bytes()} if mask else {})
    answer = httpx.post(
        f"{service.url}/models/stripes/feedback",
        params={"verdict": verdict, "who": "Ann"},
        files=files,
        headers={"X-API-Key": KEYS["write"]},
    )
    assert answer.status_code == 201, answer.text


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("feedback")
    write_stripes(home / "good", GOOD, seed=0)
    write_stripes(home / "fine", FINE, seed=5)
    write_stripes(home / "defects", DEFECTS, seed=1, damaged=True, masks=home / "masks")
    assert main([
        "fit", "anomaly", "--data", str(home / "good"), "--name", "stripes", "--runs", str(home / "runs"), "--models",
        str(home / "models"), "--quiet", *QUICK,
    ]) == 0  # fmt: skip
    return home


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Process]:
    """A service that was told: all are fine but four, three of them marked. One fine picture was learnt from."""
    flags = ("--max-feedback-bytes", "10000000", "--read-keys", KEYS["read"], "--write-keys", KEYS["write"])
    with service_process(home / "models", *flags, "--api-keys", KEYS["admin"]) as process:
        for picture in [*sorted((home / "fine").iterdir()), home / "good" / "000.png"]:
            say(process, "fine", picture)
        for i, picture in enumerate(sorted((home / "defects").iterdir())):
            say(process, "defect", picture, home / "masks" / f"{i:03}_mask.png" if i < MARKED else None)
        yield process


def newest(home: Path) -> Manifest:
    return read_manifest(max((home / "models/stripes").iterdir(), key=lambda path: int(path.name)))


@pytest.mark.slow
def test_calibrate_makes_the_next_version_of_what_people_called_fine(
    home: Path, service: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HGCLIENT_KEY", KEYS["write"])
    old = newest(home)

    status = main(["calibrate", "stripes", "--feedback", service.url, "--models", str(home / "models"), "--quiet"])

    said = capsys.readouterr().out
    assert status == 0, said
    new = newest(home)
    assert new.version == old.version + 1
    assert new.tasks == old.tasks
    assert old.anomaly is not None
    assert new.anomaly is not None
    assert len(new.anomaly.scores) == len(old.anomaly.scores) + FINE  # the picture that it has learnt from is left out
    assert f"feedback on stripes: {FINE + 1} fine, {DEFECTS} with a defect, {MARKED} of them marked" in said
    assert "has learnt from 1, and 0 are in its calibration; they are left out" in said
    figures = {metric.name: metric.data for metric in new.metrics}
    assert figures["auroc"] == f"{FINE} good images of stripes-good, and {DEFECTS} images of stripes-defect"
    assert "pixel_auroc" not in figures  # one of the defects is not marked
    assert new.provenance.command.endswith(" && python -m training calibrate stripes --feedback URL")


@pytest.mark.slow
def test_the_same_pictures_are_counted_once(
    home: Path, service: Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "calibrate", "stripes", "--feedback", service.url, "--key", KEYS["write"], "--models", str(home / "models"),
        "--quiet",
    ]  # fmt: skip
    main(command)
    before = newest(home)

    assert main(command) == 1

    assert f"has learnt from 1, and {FINE} are in its calibration, so none is new" in capsys.readouterr().err
    assert newest(home) == before


@pytest.mark.slow
def test_fit_learns_from_them_beside_the_pictures_that_are_there(home: Path, service: Process, tmp_path: Path) -> None:
    common = [
        "fit", "anomaly", "--feedback", service.url, "--key", KEYS["write"], "--name", "stripes", "--quiet",
        "--runs", str(tmp_path / "runs"), *QUICK,
    ]  # fmt: skip

    alone = main([*common, "--models", str(tmp_path / "alone")])
    together = main([*common, "--models", str(tmp_path / "together"), "--data", str(home / "good")])

    assert (alone, together) == (0, 0)
    first, second = (read_manifest(tmp_path / models / "stripes/1") for models in ("alone", "together"))
    assert first.provenance.data.split.train == FINE + 1
    assert second.provenance.data.split.train == FINE + GOOD  # one is in both
    assert "auroc" in {metric.name for metric in first.metrics}
    assert second.provenance.command.startswith(
        "python -m training fit anomaly --data good --feedback URL --name stripes"
    )


def test_masks_are_used_if_every_defect_has_one(home: Path, service: Process) -> None:
    with fetch_feedback(service.url, "stripes", key=KEYS["write"]) as some:
        assert some.masks is None
    say(service, "defect", home / "defects" / "003.png", home / "masks" / "003_mask.png")

    with fetch_feedback(service.url, "stripes", key=KEYS["write"]) as every:
        assert every.masks is not None
        assert every.defects is not None
        assert {path.name for path in every.masks.iterdir()} == {path.name for path in every.defects.iterdir()}
        assert len(list(every.masks.iterdir())) == DEFECTS


@pytest.mark.parametrize(
    ("name", "key", "sentence"),
    [
        ("stripes", "", "401: this service requires an API key"),
        (
            "stripes",
            KEYS["read"],
            "403: the key may only read, but GET '/models/stripes/feedback' needs one that may write",
        ),
        ("nobody", KEYS["write"], "nobody has called a picture of nobody at"),
    ],
)
def test_what_the_service_refuses_is_said(service: Process, name: str, key: str, sentence: str) -> None:
    with pytest.raises(DataError, match="(?s)" + sentence), fetch_feedback(service.url, name, key=key):
        pass


def test_a_service_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "stripes", "--feedback", "http://127.0.0.1:9", "--quiet"]) == 1

    assert "does not answer" in capsys.readouterr().err


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../good.png", zipfile.ZIP_STORED),
        ("good/short.png", zipfile.ZIP_STORED),
        (f"good/{'a' * 64}.png", zipfile.ZIP_DEFLATED),  # might unpack to any size
        (None, None),
    ],
)
def test_an_answer_that_is_no_export_is_refused(name: str | None, kind: int | None) -> None:
    archive = io.BytesIO(b"no archive")
    if name is not None and kind is not None:
        with zipfile.ZipFile(archive, "w", kind) as files:
            files.writestr(name, picture())

    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(archive.getvalue())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with (
                pytest.raises(DataError, match=r"no picture of an export|is broken"),
                fetch_feedback(f"http://127.0.0.1:{server.server_port}", "stripes"),
            ):
                pass
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["calibrate", "a", "--feedback", "URL", "--data", "x"], "calibrate on one of them"),
        (["fit", "anomaly", "--feedback", "URL", "--defects", "x"], "leave out --defects and --masks"),
    ],
)
def test_options_that_say_two_things_are_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)

    assert sentence in capsys.readouterr().err


def test_only_detectors_have_a_use_for_feedback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "denoise", "--feedback", "http://127.0.0.1:9", "--data", "x"]) == 1

    assert "has no use for --feedback" in capsys.readouterr().err
