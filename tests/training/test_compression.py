"""Models that compress: from images to a published version with tables, real files and figures beside JPEG."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.models.__main__ import main as measure
from service.contract.container import read_container
from service.contract.manifest import Manifest
from service.contract.range_coder import pack_symbols, unpack_symbols
from service.contract.tables import TABLE_TOTAL, TABLES_FILE, RatePoint, digest_of
from service.contract.version import manifest_of
from training.__main__ import main
from training.architectures.codec import Codec, build_codec
from training.compression.config import CompressionRecipe
from training.compression.tables import fit_table
from training.config import RecipeError
from training.errors import VerifyError
from training.measure.rate import (
    Point,
    bd_rate,
    lossless_size,
    lossy_codecs,
    lossy_curve,
    sheet_of,
    size_at,
    widest_gap,
)
from training.measure.row_files import ServedCodec, file_of
from training.problems.rows import trade_off
from training.recipe import load_recipe
from training.verify import verify

TINY = (
    "training.epochs=2",
    "training.batch_size=40",
    "training.precision=fp32",
    "images_per_file=20",
    "lambdas=[0.5, 0.05]",
    "default_rate=1",
    "data.calibration_share=0.05",
    "architecture.options={latent_dim=6, widths=[4, 8], blocks=[0, 1], neck=4, hidden=16}",
)


def tiny_codec() -> Codec:
    recipe = load_recipe("digits-compressed", TINY)
    assert isinstance(recipe, CompressionRecipe)
    return build_codec(recipe).eval()


def fit(folder: Path, tmp_path: Path, *more: str) -> int:
    places = ("--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models"), "--quiet", "--threads", "1")
    return main(["fit", "digits-compressed", "--data", str(folder), *places, *TINY, *more])


@pytest.fixture(scope="module")
def published(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    home = tmp_path_factory.mktemp("fit")
    assert fit(idx_folder, home) == 0
    directory = home / "models/digits-compressed/1"
    return manifest_of(directory), directory


def test_fit_publishes_a_model_whose_files_weigh_what_its_manifest_says(
    published: tuple[Manifest, Path], idx_folder: Path
) -> None:
    manifest, directory = published
    assert manifest.compression is not None
    codec = ServedCodec(directory)
    x = np.zeros((5, 1, 28, 28), np.float32)
    x[:, :, 4:12, 4:12] = 1.0
    for rate, point in enumerate(manifest.compression.rates):
        symbols = np.rint(codec.latents(x, rate)).astype(np.int32)

        content = file_of(manifest.name, codec, manifest.compression.rates, rate, symbols)
        file = read_container(content, max_images=5)

        assert np.array_equal(unpack_symbols(file.payload, 5, point.tables), symbols)
        assert file.decoder.hex() == manifest.tasks["decompress"].sha256[:16]
        assert point.bytes_per_image >= 50 / 20  # the header alone
    assert [metric.name for metric in manifest.metrics] == ["rate_0", "rate_1"]
    assert all("PNG, lossless" in metric.baselines for metric in manifest.metrics)
    assert (directory / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_golden_file_holds_the_golden_symbols(published: tuple[Manifest, Path]) -> None:
    manifest, directory = published
    assert manifest.compression is not None
    with np.load(directory / "golden.npz") as golden:
        symbols, rates = golden["decompress.symbols"], golden["decompress.rate"]

    payload = bytes.fromhex(manifest.compression.golden)

    assert rates.tolist() == [1.0, 1.0]
    assert np.array_equal(unpack_symbols(payload, 2, manifest.compression.rates[1].tables), symbols)


@pytest.mark.slow
def test_a_fit_that_is_repeated_makes_the_same_graphs_and_tables(
    published: tuple[Manifest, Path], idx_folder: Path, tmp_path: Path
) -> None:
    manifest, _ = published
    assert fit(idx_folder, tmp_path) == 0

    again = manifest_of(tmp_path / "models/digits-compressed/1")

    assert {task: graph.sha256 for task, graph in again.tasks.items()} == {
        task: graph.sha256 for task, graph in manifest.tasks.items()
    }
    assert again.compression == manifest.compression


@pytest.mark.slow
def test_a_run_of_another_recipe_is_not_gone_on_with(
    idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(idx_folder, tmp_path) == 0
    assert fit(idx_folder, tmp_path, "lambdas=[0.5, 0.06]") == 1

    assert "begun with another recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lambdas=[0.1, 0.2]", "smaller than the one before"),
        ("default_rate=2", "there are 2 lambdas"),
    ],
)
def test_rates_that_make_no_sense_are_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("digits-compressed", (*TINY, override))


def test_a_network_without_a_latent_cannot_compress() -> None:
    recipe = load_recipe("digits-compressed", (*TINY, "architecture.name=unet", "architecture.options={}"))
    assert isinstance(recipe, CompressionRecipe)

    with pytest.raises(RecipeError, match="has no latent"):
        build_codec(recipe)


def test_bits_are_those_of_a_prior_that_sums_to_one() -> None:
    codec = tiny_codec()
    values = torch.arange(-40.0, 41.0)[:, None].repeat(1, 6)
    rate = torch.zeros(81, dtype=torch.long)

    with torch.no_grad():  # all latents alike at the start, so one's bits are a sixth of all
        probability = 2.0 ** (-codec.bits(values, rate) / 6)

    assert float(probability[20:61].sum()) == pytest.approx(1.0, abs=1e-3)


def test_the_loss_is_squared_error_plus_lambda_times_bits() -> None:
    x = torch.zeros(2, 1, 2, 2)
    x_hat = x + 0.5  # squared error 1 per image
    lambdas = torch.tensor([1.0, 1.0])

    assert float(trade_off(x_hat, x, torch.tensor([10.0, 30.0]), lambdas)) == pytest.approx(21.0)


def test_a_table_has_the_shares_of_the_symbols_and_room_beside_them() -> None:
    symbols = np.repeat(np.array([-1, 0, 2], np.int32), [1000, 7000, 2000])

    table = fit_table(symbols)

    assert table.first == -2
    assert sum(table.counts) == TABLE_TOTAL
    assert table.counts[0] == table.counts[3] == table.counts[5] == 1
    assert np.array(table.counts)[[1, 2, 4]] / TABLE_TOTAL == pytest.approx([0.1, 0.7, 0.2], abs=2e-4)


def test_a_latent_that_never_changes_takes_no_bits() -> None:
    table = fit_table(np.full(9, 3, np.int32))

    assert table.counts == (TABLE_TOTAL,)
    assert pack_symbols(np.full((9, 1), 3, np.int32), [table]) == b""


def test_a_sheet_has_the_images_in_rows() -> None:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)

    assert np.asarray(sheet_of(images)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]


def test_better_quality_costs_more_bytes_and_png_loses_nothing(mnist_digits: NDArray[np.float32]) -> None:
    sheets = [np.rint(mnist_digits[:100] * 255).astype(np.uint8)]
    write, _ = lossy_codecs()["JPEG"]

    coarse, fine = lossy_curve(sheets, write, [10, 30])

    assert coarse.bytes_per_image < fine.bytes_per_image < lossless_size(sheets)
    assert coarse.psnr_db < fine.psnr_db


def test_a_size_lies_between_the_points_around_it() -> None:
    curve = [Point(10.0, 20.0), Point(30.0, 22.0), Point(40.0, 29.0)]

    assert size_at(curve, 20.5) == pytest.approx(15.0)
    assert size_at(curve, 19.0) is None
    assert size_at(curve, 30.0) is None
    assert size_at(curve, 25.0) is None  # too far from both
    assert widest_gap(curve, 25.0) == (curve[1], curve[2])
    assert widest_gap(curve, 21.0) is None


def test_the_delta_rate_is_the_mean_of_the_logarithms_over_the_psnrs_of_both() -> None:
    anchor = [Point(100.0, 20.0), Point(400.0, 24.0), Point(1600.0, 30.0)]

    assert bd_rate([Point(50.0, 20.0), Point(200.0, 24.0), Point(800.0, 30.0)], anchor) == pytest.approx(-0.5)
    assert bd_rate([Point(200.0, 20.0), Point(800.0, 24.0)], anchor) == pytest.approx(1.0)
    assert bd_rate([Point(50.0, 20.0), Point(400.0, 24.0)], anchor) == pytest.approx(2**-0.5 - 1)  # half, then all


@pytest.mark.slow
def test_the_benchmark_says_what_others_need_for_the_same_picture(
    published: tuple[Manifest, Path], idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, directory = published
    models = directory.parents[1]

    words = ("compression", "--data", str(idx_folder), "--models", str(models), "--docs", str(tmp_path))
    assert measure([*words, "--quick"]) == 0

    said = capsys.readouterr().out
    assert "| rate | PSNR, dB | bytes per image | JPEG, same PSNR | WebP, same PSNR |" in said
    assert "One image in a file" in said
    assert not list(tmp_path.iterdir())


def test_the_benchmark_says_how_to_get_the_model_it_misses(
    idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(["compression", "--data", str(idx_folder), "--models", str(tmp_path)]) == 1

    assert "python -m training fit digits-compressed" in capsys.readouterr().err


def test_verify_notices_a_wrong_golden_file(published: tuple[Manifest, Path], tmp_path: Path) -> None:
    _, directory = published
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    document = json.loads((copy / "manifest.json").read_text())
    points = json.loads((copy / TABLES_FILE).read_text())
    for point in points:
        point["tables"][0] = {"first": 0, "counts": [TABLE_TOTAL - 1, 1]}
    (copy / TABLES_FILE).write_text(json.dumps(points))
    said = zip(document["compression"]["rates"], points, strict=True)
    rates = tuple(RatePoint.model_validate(rate | point) for rate, point in said)
    document["compression"] |= {"tables_sha256": digest_of(rates), "golden": "ffffffff"}
    (copy / "manifest.json").write_text(json.dumps(document))

    with pytest.raises(VerifyError, match="golden file"):
        verify(copy)
