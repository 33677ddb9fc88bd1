"""Deleting on a full disk, and what a process that was killed meanwhile has left."""

import contextlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from service.collections.store import Bounds, Encoder, Item, open_jobs, open_store
from service.collections.store.feedback import Files, picture_of
from service.collections.store.job import JobBounds
from service.collections.store.sqlite import SqliteStore
from service.errors import CollectionNotFound, JobNotFound, StoreUnavailable

ENCODER = Encoder("toy", 1, "0" * 64, 8)
BOUNDS = Bounds(max_collections=10, max_items=1_000_000)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("mib", [2, 24])
def test_on_a_full_disk_everything_can_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    monkeypatch.setattr("service.collections.store.sqlite._DROPPED_AT_ONCE", 500)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    url = f"sqlite:///{disk}/items.db"
    picture = picture_of("a" * 64, "fine", 3, None, has_mask=False)
    bounds = JobBounds(max_jobs=100, max_bytes=10**9, keep_s=60)
    try:
        with contextlib.closing(open_store(url)) as store, contextlib.closing(open_jobs(url)) as jobs:
            for i in range(0, 2000, 100):
                parts = [Item(f"{i + k:064}", np.zeros(8, np.float32)) for k in range(100)]
                store.put("parts", ENCODER, parts, BOUNDS)
            store.feedback.put("nuts", picture, Files(bytes(10_000), None), max_bytes=10**6)
            job = jobs.submit("request", bytes(10_000), bounds=bounds)
            with (disk / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
                while True:
                    other.write(bytes(4096))
            with pytest.raises(StoreUnavailable):
                store.put("other", ENCODER, [Item("new", np.zeros(8, np.float32), None, {"a": "x" * 10**7})], BOUNDS)
            for _ in range(2):  # a refused job leaves room for the deletion of another
                with pytest.raises(StoreUnavailable):
                    jobs.submit("request", bytes(10**7), bounds=bounds)

            for i in range(20):
                store.remove("parts", f"{i:064}")
            store.feedback.remove("nuts", picture.id)
            jobs.remove(job.id)
            store.drop("parts")

            assert store.collections() == []
            assert store.feedback.pictures("nuts") == []
            with pytest.raises(JobNotFound):
                jobs.job(job.id)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_what_a_killed_process_left_of_a_dropped_collection_is_deleted_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.collections.store.sqlite._DROPPED_AT_ONCE", 2)
    with contextlib.closing(open_store(f"sqlite:///{tmp_path}/items.db")) as store:
        assert isinstance(store, SqliteStore)
        for name in ("old", "parts"):
            store.put(name, ENCODER, [Item(str(i), np.zeros(8, np.float32)) for i in range(5)], BOUNDS)
        with monkeypatch.context() as patch:
            patch.setattr(store, "_drop_some", lambda: False)  # killed here
            store.drop("old")
        left = store.collections()

        store.drop("parts")
        with pytest.raises(CollectionNotFound):
            store.drop("old")

        assert [found.name for found in left] == ["parts"]
        with store._file.transaction(is_writing=False) as db:
            assert [db.execute(f"SELECT count(*) FROM {table}").get for table in ("items", "collections")] == [0, 0]
