"""Photographs as grids of symbols: the transform, the tables, a whole fit and the benchmark on small pictures."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from benchmarks.models.__main__ import main as measure
from service.contract.container import read_container
from service.contract.manifest import MANIFEST_FILE
from service.contract.plane_coder import Symbols, clip_grid, frequencies, pack_grids, unpack_grids
from service.contract.tables import CHANNELS, TABLE_TOTAL, TABLES_FILE
from service.contract.version import manifest_of
from training.__main__ import main
from training.architectures.lapped import Compress, LappedAutoencoder, reach
from training.compression.patches import Patches, planes_of
from training.compression.photo_config import PhotoCodecRecipe
from training.compression.tables import CONTEXTS, ONE_CONTEXT, fit_grid_tables
from training.measure.plane_files import file_of
from training.restoration.photos import Pair
from training.verify import verify


def test_before_training_it_is_the_cosine_transform_and_loses_nothing_but_by_rounding() -> None:
    model = LappedAutoencoder((0.25, 0.125))
    x = torch.rand(2, 1, 24, 32, generator=torch.Generator().manual_seed(0))
    rate = torch.tensor([1, 0])

    y = model.encode(x, rate)
    x_hat = model.decode(y, rate)

    block = dctn(x[0, 0, 8:16, 16:24].numpy() - 0.5, norm="ortho") / 0.125
    expected = [block[v, h] for v, h in frequencies()]
    assert y.shape == (2, CHANNELS, 3, 4)
    assert y[0, :, 1, 2].detach().numpy() == pytest.approx(expected, abs=1e-4)  # float32
    assert torch.allclose(x_hat, x, atol=1e-5)


def test_means_of_blocks_round_to_the_nearest_and_others_towards_zero_a_little() -> None:
    model = LappedAutoencoder((1.0, 1.0))
    x = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0)) * 3

    y = model.encode(x, torch.zeros(1, dtype=torch.long))
    whole = Compress(model)(x, torch.zeros(1)).round()

    assert torch.equal(whole[:, 0], y[:, 0].round())
    assert torch.equal(whole[:, 1:], (y[:, 1:].sign() * torch.floor(y[:, 1:].abs() + 0.4)))
    assert (whole != y.round()).any()


@torch.no_grad()
def test_a_pixel_depends_on_nothing_beyond_the_reach() -> None:
    model = LappedAutoencoder((0.25, 0.25), width=4, depth=6)
    for parameter in model.parameters():
        parameter.add_(0.05)
    side = 2 * reach(model) // 8 + 1  # blocks
    symbols = torch.zeros(1, CHANNELS, side, side)
    changed = symbols.clone()
    changed[:, :, side // 2, side // 2] = 3.0
    rate = torch.zeros(1, dtype=torch.long)

    touched = (model.decode(changed, rate) != model.decode(symbols, rate))[0, 0].nonzero()

    assert len(touched) > 64
    assert touched.min() >= side // 2 * 8 - reach(model)
    assert touched.max() < side // 2 * 8 + 8 + reach(model)


def test_patches_are_half_luma_and_half_chroma_each_with_rates_of_its_own() -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (1, 70, 80), np.uint8), 3, 0)  # its chroma is 128 everywhere
    recipe = PhotoCodecRecipe.model_validate(
        {"kind": "compress-photos", "name": "x", "summary": "", "quantisation": [50, 20], "training": {"patch": 32}}
    )
    patches = Patches([Pair("x", torch.from_numpy(grey), torch.from_numpy(grey))], recipe)

    x, rate = patches.draw(6, torch.Generator().manual_seed(0))

    assert x.shape == (6, 1, 32, 32)
    assert [int(patch.float().std() > 1) for patch in x] == [1, 1, 1, 0, 0, 0]
    assert set(rate[:3].tolist()) <= {0, 1}
    assert set(rate[3:].tolist()) <= {2, 3}
    assert [plane.shape for plane in planes_of(torch.from_numpy(grey))] == [(70, 80), (35, 40), (35, 40)]


def test_symbols_come_back_also_where_training_images_had_others() -> None:
    seen = _symbols(seed=0)
    tables = fit_grid_tables(seen, CONTEXTS)
    wild = [clip_grid(plane.astype(np.float32) * 50, tables) for plane in _symbols(seed=1)]

    payload = pack_grids([(plane, tables) for plane in wild], CONTEXTS)
    read = unpack_grids(payload, [(48, 32)] * 3, [tables] * 3, CONTEXTS)

    assert all(np.array_equal(a, b) for a, b in zip(read, wild, strict=True))
    assert all(np.array_equal(clip_grid(plane.astype(np.float32), tables), plane) for plane in seen)


def test_files_take_what_the_tables_say() -> None:
    planes = _symbols(seed=0)
    tables = fit_grid_tables(planes, ONE_CONTEXT)
    bits = 0.0
    for plane in planes:
        plane[0] = 0
        bits -= np.log2(tables[0].counts[tables[0].reach] / TABLE_TOTAL) * plane[0].size
        for channel in range(1, CHANNELS):
            counts = np.array(tables[channel].counts)
            bits -= np.log2(counts[plane[channel] - tables[channel].first] / TABLE_TOTAL).sum()

    size = len(pack_grids([(plane, tables) for plane in planes], ONE_CONTEXT))

    assert size == pytest.approx(bits / 8, rel=0.002, abs=8)  # 24 bits of precision, and whole words


def test_contexts_make_files_of_uneven_images_smaller() -> None:
    planes = _symbols(seed=0)

    in_contexts, alone = (
        len(pack_grids([(plane, tables) for plane in planes], grid))
        for grid in (CONTEXTS, ONE_CONTEXT)
        for tables in [fit_grid_tables(planes, grid)]
    )

    assert in_contexts < 0.9 * alone


def fit(folder: Path, *, models: str = "models", runs: str = "runs", steps: int = 4) -> int:
    return main(
        [
            "fit", "photo-compressed", "--data", str(folder / "bsds500"), "--models", str(folder / models), "--runs",
            str(folder / runs), "--quiet", "training.patch=32", f"training.steps={steps}", "training.batch_size=4",
            "data.validation=2", "quantisation=[60.0, 30.0]", "default_rate=1", "network.width=8",
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (folder / "bsds500").mkdir()
    for i in range(6):
        rough = Image.fromarray(rng.integers(0, 256, (17, 18, 3), np.uint8))
        rough.resize((275, 268), Image.Resampling.BICUBIC).save(folder / f"bsds500/{i}.png")
    assert fit(folder) == 0
    return folder


@pytest.mark.slow
def test_a_fit_publishes_a_model_that_the_service_takes(fitted: Path) -> None:
    directory = fitted / "models/photo-compressed/1"
    manifest = verify(directory)

    assert sorted(manifest.tasks) == ["compress", "decompress"]
    assert manifest.input.model_dump(include={"channels", "height", "multiple_of", "halo"}) == {
        "channels": 1, "height": None, "multiple_of": 8, "halo": 32,
    }  # fmt: skip
    compression = manifest.compression
    assert compression is not None
    assert compression.grid == CONTEXTS
    assert len(compression.rates) == 2
    assert compression.rates[0].bytes_per_image < compression.rates[1].bytes_per_image
    assert compression.rates[0].psnr_db < compression.rates[1].psnr_db
    assert "JPEG at that PSNR" in manifest.metrics[0].baselines
    assert {path.name for path in directory.iterdir()} == {
        "README.md", "compress.onnx", "decompress.onnx", "golden.npz", "manifest.json", "tables.json",
        "preview.png", "curve.png",
    }  # fmt: skip


def test_a_file_has_the_header_of_its_own_model() -> None:
    symbols = [np.zeros((CHANNELS, 2, 2), np.int32)]

    short, long = (file_of(name, 0, symbols, (16, 16), b"") for name in ("mine", "photo-compressed"))

    assert len(long) - len(short) == len("photo-compressed") - len("mine")
    assert read_container(short, max_images=1).model == "mine"


def test_the_manifest_has_a_list_of_numbers_on_one_line(fitted: Path) -> None:
    text = (fitted / "models/photo-compressed/1" / MANIFEST_FILE).read_text()

    assert '"context_from": [1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40, 60, 90]' in text


def test_the_tables_are_in_a_file_of_their_own(fitted: Path) -> None:
    directory = fitted / "models/photo-compressed/1"
    rates = json.loads((directory / MANIFEST_FILE).read_text())["compression"]["rates"]

    assert all(rate.keys() == {"images_per_file", "bytes_per_image", "psnr_db"} for rate in rates)
    assert (directory / MANIFEST_FILE).stat().st_size < 20_000
    points = json.loads((directory / TABLES_FILE).read_text())
    assert [point.keys() for point in points] == [{"tables", "chroma"}] * len(rates)


@pytest.mark.slow
def test_the_same_again_makes_the_same_graphs_and_tables(fitted: Path) -> None:
    assert fit(fitted, models="again", runs="other") == 0

    def digests(models: str) -> list[str]:
        found = fitted / models / "photo-compressed/1"
        tables = manifest_of(found).compression
        assert tables is not None
        files = [found / "compress.onnx", found / "decompress.onnx"]
        return [tables.tables_sha256, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)]

    assert digests("again") == digests("models")


@pytest.mark.slow
def test_a_finished_training_is_not_done_again_and_another_recipe_is_refused(
    fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (fitted / "runs/photo-compressed/weights.pt").stat().st_mtime_ns

    assert fit(fitted, models="third") == 0
    assert (fitted / "runs/photo-compressed/weights.pt").stat().st_mtime_ns == before
    assert fit(fitted, steps=5) == 1
    assert "was begun with another recipe (training.steps was 4, now 5)" in capsys.readouterr().err


def test_photographs_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "photo-compressed", "--runs", str(tmp_path), "--models", str(tmp_path)]) == 1
    assert "Give --data FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("quantisation=[20.0, 30.0]", "each must be smaller than the one before"),
        ("default_rate=9", "there are 7 steps"),
        ("training.patch=20", "multiple of 8"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert main(["fit", "photo-compressed", "--data", str(tmp_path), "--runs", str(tmp_path), override]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_quick_benchmark_compares_and_leaves_the_page(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = fitted / "docs"

    arguments = ["--data", str(fitted), "--models", str(fitted / "models"), "--docs", str(docs), "--quick"]
    assert measure(["photo-compression", *arguments]) == 0

    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    grey, colour, speeds = rows[2:5], rows[7:10], rows[10:]
    assert [cell.strip() for cell in rows[0][:6]] == [
        "rate", "PSNR, dB", "bits per pixel", "without contexts", "DCT, same tables, same PSNR", "JPEG, same PSNR",
    ]  # fmt: skip
    for table in (grey, colour):
        assert [row[0].strip() for row in table] == ["0", "1", ""]
        assert table[2][1].strip() == "BD-rate"
        assert float(table[0][1]) < float(table[1][1])
        assert float(table[0][2].strip(" *")) < float(table[1][2].strip(" *"))
    assert [row[0].strip() for row in speeds[2:4]] == ["photo-compressed", "JPEG"]
    assert float(speeds[2][1]) > float(speeds[3][1])
    assert not docs.exists()


def test_the_benchmark_refuses_other_photographs(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = fitted / "others"
    others.mkdir()
    for path in list((fitted / "bsds500").iterdir())[:4]:
        (others / path.name).write_bytes(path.read_bytes())

    assert measure(["photo-compression", "--data", str(others), "--models", str(fitted / "models")]) == 1
    assert "does not hold the photographs" in capsys.readouterr().err


def _symbols(*, seed: int) -> list[Symbols]:
    """Nothing at most places, much at some, and slowly changing means, as of photographs."""
    rng = np.random.default_rng(seed)
    much = np.repeat(np.repeat(rng.random((3, 1, 12, 8)) < 0.2, 4, 2), 4, 3)
    falling = np.linspace(2.0, 0.1, CHANNELS)[None, :, None, None]
    symbols = np.rint(rng.laplace(0.0, 1.0, (3, CHANNELS, 48, 32)) * much * falling).clip(-4, 4).astype(np.int32)
    symbols[:, 0] = rng.integers(-2, 3, (3, 48, 32)).cumsum(1)
    return list(symbols)
