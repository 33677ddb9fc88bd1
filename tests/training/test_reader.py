"""One reader: training sees what the service sees of the same file, and leaves out what the service refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from service.contract.manifest import InputSpec
from service.images.codec import decode_image
from service.images.resize import plan_placement
from training.anomaly.config import PartsConfig
from training.anomaly.parts import choose_input
from training.config import DataConfig
from training.errors import DataError
from training.images.folder import find_images, read_folder
from training.images.pixels import stack, to_bytes, to_pixels
from training.images.reader import peek, read_image, read_pixels
from training.restoration.photos import read_pairs, read_photos

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 12, 9
ORIENTATION = 0x0112


def picture(mode: str) -> Image.Image:
    """Noise, so that every pixel tells where it belongs."""
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 65536, (HEIGHT, WIDTH), np.uint16))
    depth = {"L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    values = RNG.integers(0, 256, (HEIGHT, WIDTH, depth), np.uint8)
    if mode != "P":
        return Image.frombytes(mode, (WIDTH, HEIGHT), values.tobytes())
    image = Image.fromarray(values[:, :, 0] % 50)
    image.putpalette(RNG.integers(0, 256, 768, np.uint8).tobytes())
    return image


def served(path: Path, config: DataConfig) -> np.ndarray:
    image = decode_image(path.read_bytes(), max_pixels=100_000, max_frames=9)
    spec = InputSpec.model_validate(config.model_dump(include={"channels", "height", "width", "resize"}))
    return np.asarray(plan_placement(spec, *image.size).place(image.pixels(config.channels))[0])


def learnt(path: Path, config: DataConfig) -> np.ndarray:
    return to_pixels(torch.from_numpy(read_image(path, config))).numpy()


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (8, 8), (16, 20)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "LA", "P", "I;16", "RGB", "RGBA", "CMYK"])
def test_what_is_learnt_is_what_is_served(mode: str, channels: int, size: tuple[int, int], tmp_path: Path) -> None:
    for resize in ("fit", "exact"):
        config = DataConfig.model_validate(
            {"channels": channels, "height": size[0], "width": size[1], "resize": resize}
        )
        for compression in ("raw", "tiff_lzw"):
            for orientation in range(1, 9):
                path = tmp_path / f"{compression}-{orientation}.tif"
                picture(mode).save(path, compression=compression, tiffinfo={ORIENTATION: orientation})

                np.testing.assert_allclose(learnt(path, config), served(path, config), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_orientation_is_shown_upright(suffix: str, orientation: int, mode: str, tmp_path: Path) -> None:
    upright = picture(mode)
    stored_by_orientation = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    way = stored_by_orientation.get(orientation)
    stored = upright if way is None else upright.transpose(way)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    upright.save(tmp_path / f"b.{suffix}")
    channels = 3 if mode == "RGB" else 1

    found, expected = (read_pixels(tmp_path / f"{name}.{suffix}", channels) for name in "ab")

    assert np.array_equal(found, expected)
    assert peek(tmp_path / f"a.{suffix}") == ((WIDTH, HEIGHT), channels == 1)


def test_the_size_of_a_detector_follows_rotated_tiffs_as_they_are_shown(tmp_path: Path) -> None:
    Image.new("RGB", (400, 200)).save(tmp_path / "a.tif", tiffinfo={ORIENTATION: 6})

    found = choose_input([tmp_path / "a.tif"], PartsConfig())

    assert (found.height, found.width) == (352, 192)


def test_bytes_stay_bytes_where_they_are_exact(tmp_path: Path) -> None:
    picture("RGB").save(tmp_path / "plain.png")
    config = DataConfig(height=HEIGHT, width=WIDTH)

    assert read_image(tmp_path / "plain.png", config).dtype == np.uint8
    assert read_image(tmp_path / "plain.png", config.model_copy(update={"height": 8})).dtype == np.float32


def test_images_of_two_depths_are_kept_as_pixels() -> None:
    bright = np.full((1, 2, 2), 255, np.uint8)
    grey = np.full((1, 2, 2), 0.5, np.float32)

    both = stack([bright, grey])

    assert both.dtype == torch.float32
    assert both[:, 0, 0, 0].tolist() == [1.0, 0.5]
    assert to_bytes(both)[:, 0, 0, 0].tolist() == [255, 128]
    assert stack([bright]).dtype == torch.uint8


def test_a_picture_of_eight_bits_and_its_copy_of_sixteen_are_twins(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values.astype(np.uint16) * np.uint16(257)).save(tmp_path / "b.png")

    found = read_folder(tmp_path, DataConfig(channels=1, height=8, width=8), progress=False)

    assert len(found.images) == 1
    assert [(s.path.name, s.reason) for s in found.skipped] == [("b.png", f"the same pixels as {tmp_path / 'a.png'}")]


def test_a_camera_of_sixteen_bits_that_uses_few_of_them_is_not_rounded_away(tmp_path: Path) -> None:
    for i in range(4):
        Image.fromarray(RNG.integers(51_000, 51_200, (8, 8), np.uint16)).save(tmp_path / f"{i}.png")

    images = read_folder(tmp_path, DataConfig(channels=1, height=8, width=8), progress=False).images

    assert min(len(image.unique()) for image in images) > 30


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_folder_of_blank_pictures_is_an_error(depth: type, tmp_path: Path) -> None:
    for i in range(9):
        Image.fromarray(np.full((20, 20), 7 + i, depth)).save(tmp_path / f"{i}.png")

    with pytest.raises(DataError, match="every picture has one value"):
        read_folder(tmp_path, DataConfig(channels=1, height=8, width=8), progress=False)
    with pytest.raises(DataError, match="every picture has one value"):
        read_photos(tmp_path, 1, validation=2, least_side=8, progress=False)


def test_what_the_service_refuses_is_skipped_and_counted(tmp_path: Path) -> None:
    picture("RGB").save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-40])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.tif").write_bytes(b"II*\0")
    picture("RGB").save(tmp_path / "pages.tif", save_all=True, append_images=[picture("RGB") for _ in range(300)])

    found = read_folder(tmp_path, DataConfig(height=HEIGHT, width=WIDTH), progress=False)

    assert [path.name for path in found.paths] == ["good.png"]
    assert {s.path.name for s in found.skipped} == {"cut.png", "text.jpg", "cut.tif", "pages.tif"}
    assert all(s.reason.startswith("cannot be read: ") for s in found.skipped)


@pytest.mark.parametrize("hidden", [".thumbs/a.png", "@eaDir/a.png", "__MACOSX/._a.png", "deep/.DS/a.png", "._a.png"])
def test_hidden_and_system_folders_are_left_out(hidden: str, tmp_path: Path) -> None:
    for name in (hidden, "a.png", "deep/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture("L").save(tmp_path / name)

    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == ["a.png", "deep/b.png"]


def test_pairs_of_one_clean_picture_are_in_one_part(tmp_path: Path) -> None:
    for folder in ("noisy", "clean"):
        (tmp_path / folder).mkdir()
    scenes = [picture("L") for _ in range(4)]
    for i in range(12):  # three shots of each
        picture("L").save(tmp_path / "noisy" / f"{i:02}.png")
        scenes[i // 3].save(tmp_path / "clean" / f"{i:02}.png")

    found = read_pairs(tmp_path / "noisy", tmp_path / "clean", 1, validation=2, least_side=8, progress=False)

    parts = [{pair.clean.numpy().tobytes() for pair in part} for part in (found.train, found.validation)]
    assert parts[0].isdisjoint(parts[1])
    assert len(found.train) + len(found.validation) == 12
