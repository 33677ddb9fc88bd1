"""The card and the preview of a model, as training wrote them."""

from pathlib import Path

import numpy as np

from tests.conftest import ROOT
from tests.service.conftest import MakeClient
from tests.service.files import png
from tests.service.toymodels import publish_toy

PICTURE = png(np.zeros((4, 4), np.uint8))


def test_the_card_and_the_preview_of_a_version_are_served_as_they_are(
    models_dir: Path, make_client: MakeClient
) -> None:
    for version in (1, 2):
        directory = publish_toy(models_dir, version=version)
        (directory / "README.md").write_text(f"# toy {version}: <b>ü</b>", "utf-8")
        (directory / "preview.png").write_bytes(PICTURE)
    client = make_client()

    card = client.get("/models/toy/card?version=1")
    preview = client.get("/models/toy/preview")

    assert card.text == "# toy 1: <b>ü</b>"
    assert card.headers["content-type"] == "text/markdown; charset=utf-8"  # never run as HTML
    assert card.headers["x-content-type-options"] == "nosniff"
    assert (card.headers["x-model"], preview.headers["x-model"]) == ("toy/1", "toy/2")
    assert (preview.content, preview.headers["content-type"]) == (PICTURE, "image/png")
    again = client.get("/models/toy/preview", headers={"If-None-Match": preview.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_model_made_without_them_says_so(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()

    for file, name in (("card", "README.md"), ("preview", "preview.png")):
        answer = client.get(f"/models/toy/{file}")
        assert (answer.status_code, answer.json()["code"]) == (404, "model-file-not-found")
        assert answer.json()["detail"] == f"model toy/1 has no {name}"
    assert client.get("/models/tox/card").json()["code"] == "model-not-found"
    assert client.get("/models/toy/card?version=3").json()["code"] == "version-not-found"
    assert client.get("/models/toy/manifest.json").json()["code"] == "route-not-found"


def test_a_missing_file_is_looked_for_once(models_dir: Path, make_client: MakeClient) -> None:
    directory = publish_toy(models_dir)
    client = make_client()
    assert client.get("/models/toy/card").status_code == 404

    (directory / "README.md").write_text("# too late, a version never changes", "utf-8")

    assert client.get("/models/toy/card").status_code == 404


def test_every_shipped_model_has_a_card_and_a_preview() -> None:
    versions = [path.parent for path in (ROOT / "models").glob("*/*/manifest.json")]

    assert versions
    assert [version for version in versions if not (version / "README.md").is_file()] == []
    assert [version for version in versions if not (version / "preview.png").is_file()] == []
