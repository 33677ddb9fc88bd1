"""Images on their way in: MNIST's files, anybody's folders, and the cut into parts."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from training.config import DataConfig, RecipeError
from training.errors import DataError
from training.images import mnist
from training.images.dataset import load_data
from training.images.folder import read_folder
from training.images.idx import read_idx
from training.images.reader import read_image
from training.images.split import split

MNIST = DataConfig(source="mnist", channels=1, height=28, width=28)
GREY = DataConfig(channels=1, height=8, width=8)


def save(path: Path, array: NDArray[np.uint8] | NDArray[np.uint16], *, exif: Image.Exif | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, exif=exif or Image.Exif())
    return path


def test_an_idx_folder_is_cut_into_parts_that_share_no_image(idx_folder: Path) -> None:
    images = read_idx(idx_folder / "train-images-idx3-ubyte.gz", axes=3)

    data = load_data(MNIST, idx_folder, seed=0)

    parts = torch.cat([data.train, data.validation, data.calibration])[:, 0]
    assert sorted(image.numpy().tobytes() for image in parts) == sorted(image.numpy().tobytes() for image in images)
    assert len(data.test) == 40


def test_another_seed_cuts_in_another_way_and_the_same_seed_in_the_same() -> None:
    first, again, other = (split(range(100), (0.1, 0.2), seed=seed) for seed in (0, 0, 1))

    assert [len(part) for part in first] == [70, 10, 20]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_shares_that_leave_nothing_for_training_are_refused() -> None:
    with pytest.raises(DataError, match="leave none for training"):
        split(range(10), (0.5, 0.5), seed=0)


def test_alone_images_are_cut_as_a_shuffle_is() -> None:
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))

    parts = split(range(50), (0.1, 0.0, 0.2), seed=3)

    assert torch.equal(torch.cat(parts), order)
    assert [len(part) for part in parts] == [35, 5, 0, 10]


def test_a_group_is_never_in_two_parts() -> None:
    groups = [f"thing {i // 5}" for i in range(200)]

    parts = split(groups, (0.1, 0.1, 0.2), seed=0)

    things = [{groups[i] for i in part.tolist()} for part in parts]
    assert sum(map(len, things)) == len(set().union(*things)) == 40
    assert [len(part) for part in parts] == [120, 20, 20, 40]


def test_groups_too_large_for_a_part_are_refused() -> None:
    with pytest.raises(DataError, match="2 groups of images leave none for training"):
        split(["a"] * 10 + ["b"] * 10, (0.1, 0.1), seed=0)


def test_a_folder_is_cut_by_its_sub_folders_where_the_recipe_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for thing in range(8):
        for view in range(4):
            save(
                tmp_path / f"{thing}" / f"{view}.png",
                np.full((8, 8), 30 * thing, np.uint8) + rng.integers(0, 9, (8, 8), np.uint8),
            )

    data = load_data(GREY.model_copy(update={"groups": "folder", "test_share": 0.25}), tmp_path, seed=0)

    parts = (data.train, data.validation, data.calibration, data.test)
    things = [{int(image.min()) // 30 for image in part} for part in parts]
    assert sum(map(len, things)) == 8
    assert all(len(part) == 4 * len(seen) for part, seen in zip(parts, things, strict=True))


def test_mnist_has_no_groups(idx_folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.groups=folder"):
        load_data(MNIST.model_copy(update={"groups": "folder"}), idx_folder, seed=0)


def test_a_folder_that_only_looks_like_mnist_does_not_get_its_name_or_licence(idx_folder: Path) -> None:
    data = load_data(MNIST, idx_folder, seed=0)
    assert data.licence == ""
    assert data.name != "mnist"
    assert data.licence == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends inside its header"),
        (gzip.compress(b"\x00\x00\x08\x03\x00"), "ends inside its header, after 5 of 16 bytes"),
        (gzip.compress(np.array([2049, 1, 1, 1], ">u4").tobytes() + b"\x00"), "magic number 2049"),
        (gzip.compress(np.array([2051, 2, 2, 2], ">u4").tobytes() + b"\x00" * 7), "promises 8 bytes.*holds only 7"),
        (gzip.compress(np.array([2051, 2, 2, 2], ">u4").tobytes() + b"\x00" * 9), "promises 8 bytes.*holds more"),
        (gzip.compress(np.array([2051] + [2**32 - 1] * 3, ">u4").tobytes()), "which no usable file has"),
        (b"\x1f\x8bnot gzip at all", "damaged or not gzip"),
        (gzip.compress(np.array([2051, 2, 2, 2], ">u4").tobytes() + b"\x00" * 8)[:-9], "damaged or not gzip"),
    ],
)
def test_a_damaged_idx_file_is_named_with_what_is_wrong(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)

    with pytest.raises(DataError, match=message):
        read_idx(path, axes=3)


def test_a_download_with_other_bytes_than_mnist_is_refused_and_not_kept(idx_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="MNIST's is"):
        mnist.download(tmp_path / "data", mirror=f"{idx_folder.as_uri()}/")

    assert list((tmp_path / "data").iterdir()) == []


def test_without_network_the_message_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give --data FOLDER"):
        mnist.download(tmp_path, mirror="http://127.0.0.1:9/")


def test_a_folder_is_read_in_the_order_of_paths_whatever_its_depth_and_formats(image_folder: Path) -> None:
    found = read_folder(image_folder, DataConfig(height=16, width=16), progress=False)

    assert found.images.shape == (12, 3, 16, 16)
    assert found.skipped == ()


def test_a_broken_file_is_skipped_with_its_reason(image_folder: Path) -> None:
    whole = (image_folder / "set0" / "0.png").read_bytes()
    (image_folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (image_folder / "text.jpg").write_text("not an image")

    found = read_folder(image_folder, DataConfig(height=16, width=16), progress=False)

    assert len(found.images) == 12
    assert {s.path.name for s in found.skipped} == {"cut.png", "text.jpg"}
    assert all("cannot be read" in s.reason for s in found.skipped)


def test_a_folder_without_a_readable_image_is_an_error_that_lists_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no")

    with pytest.raises(DataError, match=r"none of 1 files can be used:\n  .*a\.png: cannot be read"):
        read_folder(tmp_path, GREY, progress=False)


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image in it; looked for \.apng, \.avif, \.avifs, \.bmp, \.gif"):
        read_folder(tmp_path, GREY, progress=False)


def test_too_few_images_are_an_error_with_the_number_needed(tmp_path: Path) -> None:
    save(tmp_path / "one.png", np.eye(8, dtype=np.uint8))

    with pytest.raises(DataError, match="1 different readable images, at least 8 are needed"):
        load_data(GREY, tmp_path, seed=0)


def test_the_orientation_that_a_camera_noted_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0, :] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    path = save(tmp_path / "turned.png", pixels, exif=exif)

    image = read_image(path, GREY)

    assert (image[0, :, 7] == 200).all()
    assert image[0, :, :7].max() == 0


def test_sixteen_bits_keep_their_depth(tmp_path: Path) -> None:
    path = save(tmp_path / "deep.png", np.full((8, 8), 32767, np.uint16))

    image = read_image(path, GREY)

    assert image.dtype == np.float32
    assert image == pytest.approx(32767 / 65535, abs=1e-7)


@pytest.mark.parametrize("resize", ["fit", "exact"])
def test_a_flat_image_stays_flat_at_any_size(resize: str, tmp_path: Path) -> None:
    path = save(tmp_path / "flat.png", np.full((30, 17), 99, np.uint8))

    image = read_image(path, GREY.model_copy(update={"resize": resize}))

    assert image.shape == (1, 8, 8)
    assert image == pytest.approx(99 / 255, abs=1e-6)


def test_fit_keeps_proportions_and_repeats_the_edge(tmp_path: Path) -> None:
    pixels = np.zeros((8, 4), np.uint8)
    pixels[:, 0] = 50
    pixels[:, 3] = 150
    path = save(tmp_path / "narrow.png", pixels)

    image = read_image(path, GREY)

    assert image[0, 0].tolist() == [50, 50, 50, 0, 0, 150, 150, 150]


def test_reject_skips_images_of_another_size(tmp_path: Path) -> None:
    path = save(tmp_path / "large.png", np.zeros((9, 8), np.uint8))

    with pytest.raises(DataError, match="the image is 8x9, the model takes exactly 8x8"):
        read_image(path, GREY.model_copy(update={"resize": "reject"}))


def test_the_licence_of_ones_own_images_is_what_the_recipe_says(image_folder: Path) -> None:
    config = DataConfig(height=16, width=16, licence="CC BY 4.0, Jane Doe")

    assert load_data(config, image_folder, seed=0, progress=False).licence == "CC BY 4.0, Jane Doe"


def test_floating_point_images_of_unknown_range_are_skipped_instead_of_turning_black(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 127.5, np.float32)).save(tmp_path / "float.tiff")

    with pytest.raises(DataError, match="pixels are in"):
        read_folder(tmp_path, GREY, progress=False)


def test_a_bomb_is_skipped_with_its_size_and_without_a_warning(tmp_path: Path) -> None:
    for name, side in (("large.png", 9_480), ("bomb.png", 20_000)):  # 90 and 400 million pixels, 11 and 50 kB
        Image.new("1", (side, side)).save(tmp_path / name)
    save(tmp_path / "good.png", np.arange(64, dtype=np.uint8).reshape(8, 8))

    found = read_folder(tmp_path, GREY, progress=False)

    assert len(found.images) == 1
    assert ["the limit is 89000000" in s.reason for s in found.skipped] == [True, True]
