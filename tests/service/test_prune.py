"""`python -m service prune`: what goes, and above all what stays."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from service.collections.prune import main, needed
from service.collections.store import Bounds, Encoder, Item, Store, open_store
from service.models.aliases import Alias
from service.models.directory import list_versions
from service.models.snapshot import Snapshot
from service.settings import PREFIX, Settings
from tests.service.slowmodel import ROOT
from tests.service.toymodels import PROVENANCE, publish_codec, publish_toy


def url_of(models_dir: Path) -> str:
    return f"sqlite:///{models_dir.parent / 'items.db'}"


def opened(models_dir: Path) -> contextlib.closing[Store]:
    return contextlib.closing(open_store(url_of(models_dir)))


def prune(models_dir: Path, *flags: str) -> int:
    return main([*flags, "--models-dir", str(models_dir), "--collections-url", url_of(models_dir), "--device", "cpu"])


def versions(models_dir: Path, name: str = "toy") -> list[int]:
    return sorted(int(path.name) for path in (models_dir / name).iterdir())


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every version passes its checks: trying them takes a second."""

    async def newest(settings: Settings) -> Snapshot:
        found = list_versions(settings.models_dir)
        live = {name: SimpleNamespace(manifest=SimpleNamespace(version=max(v))) for name, v in found.items()}
        return Snapshot(live, found)  # type: ignore[arg-type]  # of a model, its version alone is asked for

    monkeypatch.setattr("service.collections.prune._live", newest)


@pytest.fixture
def five(models_dir: Path) -> Path:
    for version in range(1, 6):
        publish_toy(models_dir, version=version)
    return models_dir


def test_the_newest_versions_stay_and_the_bytes_of_the_others_are_told(
    five: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [sum(file.stat().st_size for file in (five / "toy" / str(v)).iterdir()) for v in (1, 2)]

    assert prune(five, "--keep", "3") == 0

    assert versions(five) == [3, 4, 5]
    assert capsys.readouterr().out == (
        f"toy/1 is gone: {sizes[0]} bytes\ntoy/2 is gone: {sizes[1]} bytes\n"
        f"2 of 5 versions removed, {sum(sizes)} bytes\n"
    )


@pytest.mark.usefixtures("trusted")
def test_a_dry_run_removes_nothing(five: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prune(five, "--keep", "1", "--dry-run") == 0

    assert versions(five) == [1, 2, 3, 4, 5]
    assert "toy/1 would go" in capsys.readouterr().out


@pytest.mark.usefixtures("trusted")
def test_what_an_alias_names_stays(five: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(five) as store:
        store.aliases.put(Alias("toy", "prod", 1))
        store.aliases.put(Alias("toy", "prod", 2, candidate=3, share=0.1))  # and 1 is what a roll back would bring

    prune(five, "--keep", "1")

    assert versions(five) == [1, 2, 3, 5]
    assert "toy/2 stays: the alias prod names it" in capsys.readouterr().out


@pytest.mark.usefixtures("trusted")
def test_what_a_collection_and_a_training_need_stays(five: Path) -> None:
    with opened(five) as store:
        item = Item("a", np.zeros(4, np.float32))
        store.put("parts", Encoder("toy", 1, "0" * 64, 4), [item], Bounds(1, 1))
        for training_id, old_version in (("waits", 2), ("over", 3)):
            store.trainings.begin(training_id, "toy", "calibrate")
            store.trainings.set_ready(training_id, card="", old_version=old_version)
        store.trainings.set_live("over", version=5)

    prune(five, "--keep", "1")

    assert versions(five) == [1, 2, 5]


@pytest.mark.usefixtures("trusted")
def test_what_a_version_that_stays_was_trained_from_stays(models_dir: Path) -> None:
    def start(version: int) -> dict[str, object]:
        return {"name": "toy", "version": version, "sha256": "0" * 64, "images_seen": 1, "cpu_s": 1.0}

    for version, began in ((1, None), (2, 1), (3, None), (4, 2)):
        begin = {} if began is None else {"start": start(began)}
        publish_toy(models_dir, version=version, manifest_changes={"provenance": {**PROVENANCE, **begin}})

    prune(models_dir, "--keep", "1")

    assert versions(models_dir) == [1, 2, 4]


@pytest.mark.usefixtures("trusted")
def test_versions_that_decompress_stay(models_dir: Path) -> None:
    for version in (1, 2):
        publish_codec(models_dir, version=version)

    prune(models_dir, "--keep", "1")

    assert versions(models_dir, "codec") == [1, 2]


def test_a_newest_version_that_fails_its_checks_does_not_take_the_place_of_the_one_that_answers(five: Path) -> None:
    (five / "toy" / "5" / "denoise.onnx").write_bytes(b"torn")

    prune(five, "--keep", "1")

    assert versions(five) == [4, 5]


def test_a_model_without_a_version_that_works_keeps_all(models_dir: Path) -> None:
    snapshot = Snapshot({}, {"toy": (1, 2)}, is_loading=False)

    assert needed(snapshot, models_dir, None, keep=1).keys() == {("toy", 1), ("toy", 2)}


@pytest.mark.usefixtures("trusted")
def test_what_a_killed_command_left_is_removed(five: Path) -> None:
    (five / "toy" / "1").rename(five / "toy" / ".pruned-1")

    prune(five, "--keep", "4")

    assert versions(five) == [2, 3, 4, 5]


@pytest.mark.usefixtures("trusted")
def test_nothing_is_removed_where_the_database_does_not_say_what_it_needs(
    five: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (five.parent / "items.db").write_bytes(b"no database" * 1000)

    assert prune(five, "--keep", "1") == 2

    assert versions(five) == [1, 2, 3, 4, 5]
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("keep", ["0", "-1", "all"])
def test_at_least_one_version_stays(models_dir: Path, keep: str) -> None:
    with pytest.raises(SystemExit):
        prune(models_dir, "--keep", keep)


def test_it_is_a_command_of_the_service(five: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    flags = ["--models-dir", str(five), "--collections-url", url_of(five), "--keep", "4"]

    done = subprocess.run(
        [sys.executable, "-m", "service", "prune", *flags],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("bytes\n")
    assert versions(five) == [2, 3, 4, 5]
