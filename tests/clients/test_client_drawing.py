"""What the client and the command line draw, by a running service."""

import asyncio
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hourglass_client import AsyncHourglass, BadRequest, Hourglass, Latent, Picture
from hourglass_client.__main__ import main
from tests.service.files import pixels_of, png
from tests.service.slowmodel import service_process
from tests.service.toymodels import publish_generator


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("models")
    publish_generator(directory)
    with service_process(directory) as process:
        yield process.url


@pytest.fixture
def ends(tmp_path: Path) -> list[str]:
    for name, level in (("black", 0), ("white", 255)):
        (tmp_path / f"{name}.png").write_bytes(png(np.full((4, 4), level, np.uint8)))
    return [str(tmp_path / "black.png"), str(tmp_path / "white.png")]


def test_images_are_drawn_and_their_seed_draws_them_again(url: str) -> None:
    with Hourglass(url) as hourglass:
        drawn = hourglass.generate(5, temperature=0.5, label="dark", accept="application/x-npy")
        again = hourglass.generate(5, temperature=0.5, label="dark", accept="application/x-npy", seed=drawn.seed)
        sheet = hourglass.generate(4, view="sheet", seed=drawn.seed)
        with pytest.raises(BadRequest, match="it knows dark, light"):
            hourglass.generate(label="blue")

    assert drawn.array().shape == (5, 1, 4, 4)
    assert (drawn.content, drawn.model) == (again.content, "prior/1")
    assert sheet.array().shape == (10, 10)


def test_the_way_between_two_images_or_latents_is_drawn(url: str, ends: list[str]) -> None:
    with Hourglass(url) as hourglass:
        strip = hourglass.interpolate(ends[0], Path(ends[1]), steps=3)
        latents = [hourglass.encode(end) for end in ends]
        frames = hourglass.interpolate(*latents, steps=3, path="spherical", accept="application/x-npy")
        with pytest.raises(TypeError, match="not between an image and a latent"):
            hourglass.interpolate(ends[0], latents[1])
        with pytest.raises(ValueError, match="prior/1 and other/1"):
            hourglass.interpolate(latents[0], Latent(latents[1].values, "other/1"))

    assert strip.array()[0, ::6].tolist() == [0, 128, 255]
    np.testing.assert_allclose(frames.array()[:, 0, 0, 0], [0, 0.5, 1], atol=1e-6)  # from the mean an arc is straight


def test_the_asyncio_client_does_the_same(url: str, ends: list[str]) -> None:
    async def ask() -> tuple[Picture, Picture]:
        async with AsyncHourglass(url) as hourglass:
            return await hourglass.generate(seed=3), await hourglass.interpolate(*ends, steps=2)

    drawn, strip = asyncio.run(ask())

    assert (drawn.seed, drawn.array().shape) == (3, (4, 4))
    assert strip.array().shape == (4, 10)


def test_generate_writes_what_the_ending_says(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one.png", "sheet.png", "all.zip", "all.npy"):
        count = "1" if name == "one.png" else "4"
        assert main(["--url", url, "generate", str(tmp_path / name), "--count", count, "--seed", "8"]) == 0

    assert "--seed 8" in capsys.readouterr().err
    assert pixels_of((tmp_path / "one.png").read_bytes()).shape == (4, 4)
    assert pixels_of((tmp_path / "sheet.png").read_bytes()).shape == (10, 10)
    assert np.load(tmp_path / "all.npy").shape == (4, 1, 4, 4)
    with zipfile.ZipFile(io.BytesIO((tmp_path / "all.zip").read_bytes())) as archive:
        assert len(archive.namelist()) == 5  # and results.json


@pytest.mark.parametrize(("name", "kind"), [("way.png", "PNG"), ("way.gif", "GIF"), ("way.webp", "WEBP")])
def test_interpolate_writes_what_the_ending_says(
    url: str, tmp_path: Path, ends: list[str], name: str, kind: str
) -> None:
    assert main(["--url", url, "interpolate", *ends, str(tmp_path / name), "--steps", "4"]) == 0

    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        assert getattr(picture, "n_frames", 1) == (1 if kind == "PNG" else 4)


def test_an_ending_that_nothing_can_be_written_as_is_refused(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--url", url, "generate", str(tmp_path / "image.bmp")]) == 2

    assert ".zip" in capsys.readouterr().err
