"""The volume of models in compose: the training publishes into it and the service serves it, as their users."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.service import Service
from tests.test_deploy import ROOT, owners

SHIPPED = ROOT / "models" / "digits-2d"
PUBLISH = """
import sys; from pathlib import Path
from training.publish import publish; from training.run import RunDirectory
print(publish(RunDirectory(Path(sys.argv[1]), "mine"), Path(sys.argv[2])))
"""
# An interpreter below a home that only root may enter is let in, in a mount namespace of its own.
LET_IN = """
home=$1 uid=$2; shift 2
if [ -n "$home" ]; then
    kept=$(mktemp -d) && mount --bind "$home" "$kept" && mount -t tmpfs -o mode=755 tmpfs /root
    mkdir -p "$home" && mount --bind "$kept" "$home"
fi
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups "$@"
"""


def as_user(uid: int) -> list[str]:
    """Return a command prefix that runs as a user."""
    home = str(Path(sys.executable).resolve().parent.parent)
    return ["unshare", "-m", "sh", "-c", LET_IN, "sh", home if home.startswith("/root/") else "", str(uid)]


@pytest.fixture(params=["service", "training"])
def volume(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A new volume as Docker fills it: the folder of the image whose container was first, with its owner."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as other users")
    if subprocess.run([*as_user(10001), sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("other users cannot run this interpreter")
    with tempfile.TemporaryDirectory(prefix="hourglass-volume-") as folder:  # pytest's own folders let in nobody else
        Path(folder).chmod(0o755)
        models = Path(folder) / "models"
        shutil.copytree(SHIPPED, models / SHIPPED.name)
        uid = owners(request.param)["models"]
        for path in (models, *models.rglob("*")):
            os.chown(path, uid, uid)
        yield models


@pytest.mark.slow
def test_what_the_training_publishes_is_served_as_the_users_of_compose_are(volume: Path) -> None:
    run = volume.parent / "run"
    shutil.copytree(SHIPPED / "1", run / "model")
    manifest = json.loads((run / "model" / "manifest.json").read_text()) | {"name": "mine"}
    (run / "model" / "manifest.json").write_text(json.dumps(manifest))

    published = subprocess.run(
        [*as_user(owners("training")["USER"]), sys.executable, "-c", PUBLISH, str(run), str(volume)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    with Service(models=volume, prefix=as_user(owners("service")["USER"])) as service:
        answer = service.ask("/generate?model=mine", b'{"count": 1}', "application/json")

    assert published.stdout.strip() == str(volume / "mine" / "1"), published.stderr
    assert (volume / "mine" / "1").stat().st_uid == owners("training")["USER"]
    assert answer
