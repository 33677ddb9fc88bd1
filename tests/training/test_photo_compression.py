"""Photographs as grids of symbols: the transform, the coder with contexts, and the benchmark on small pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from service.manifest import TABLE_TOTAL
from training.__main__ import main
from training.compression.grid import CONTEXTS, Symbols, fit_grid_tables
from training.compression.lapped import CHANNELS, LappedAutoencoder, frequencies, rounded


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
    y = torch.tensor([-1.7, -0.55, 0.55, 1.7]).repeat(1, 2, 1, 1)  # (1, 2, 1, 4)

    whole = rounded(y)

    assert whole[0, 0, 0].tolist() == [-2, -1, 1, 2]
    assert whole[0, 1, 0].tolist() == [-2, 0, 0, 2]


def test_a_grid_comes_back_from_its_bytes_also_where_training_images_had_other_symbols() -> None:
    tables = fit_grid_tables(_symbols(seed=0))
    wild = tables.clip(_symbols(seed=1) * 50)

    read = tables.unpack(tables.pack(wild), (wild.shape[0], *wild.shape[2:]))

    assert np.array_equal(read, wild)
    assert np.abs(wild[:, 0]).max() == np.abs(_symbols(seed=0)[:, 0]).max()
    assert np.array_equal(tables.clip(_symbols(seed=0)), _symbols(seed=0))


def test_files_take_what_the_tables_say() -> None:
    symbols = _symbols(seed=0)
    one = fit_grid_tables(symbols, in_contexts=False)
    bits = 0.0
    for channel in range(1, CHANNELS):
        table = one.tables[channel][0]
        counts = np.array(table.counts)
        bits -= np.log2(counts[symbols[:, channel] - table.first] / TABLE_TOTAL).sum()
    without_means = symbols.copy()
    without_means[:, 0] = 0

    size = len(one.pack(without_means))
    means = one.tables[0][0]
    zero = -np.log2(means.counts[-means.first] / TABLE_TOTAL) * symbols[:, 0].size

    assert size == pytest.approx((bits + zero) / 8, rel=0.002, abs=8)  # 24 bits of precision, and whole words


def test_contexts_make_files_of_uneven_images_smaller() -> None:
    symbols = _symbols(seed=0)

    in_contexts, alone = (fit_grid_tables(symbols, in_contexts=on) for on in (True, False))

    assert len(in_contexts.tables[5]) == CONTEXTS
    assert len(in_contexts.pack(symbols)) < 0.9 * len(alone.pack(symbols))


def test_benchmark_trains_and_compares_and_a_quick_one_leaves_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    (data := tmp_path / "bsds500").mkdir()
    for i in range(3):
        rough = Image.fromarray(rng.integers(0, 256, (17, 18), np.uint8))
        rough.resize((272, 264), Image.Resampling.BICUBIC).save(data / f"{i}.png")

    assert main(["benchmark", "photo-compression", "--data", str(tmp_path), "--docs", str(tmp_path), "--quick"]) == 0

    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    psnr = [float(row[0]) for row in rows[2:]]
    sizes = [float(row[1].strip(" *")) for row in rows[2:]]
    assert rows[0][4].strip() == "JPEG, same PSNR"
    assert len(psnr) == 5
    assert psnr == sorted(psnr)
    assert sizes == sorted(sizes)
    assert not (tmp_path / "images").exists()


def _symbols(*, seed: int) -> Symbols:
    """Nothing at most places, much at some, and slowly changing means, as of photographs."""
    rng = np.random.default_rng(seed)
    much = np.repeat(np.repeat(rng.random((3, 1, 12, 8)) < 0.2, 4, 2), 4, 3)
    falling = np.linspace(2.0, 0.1, CHANNELS)[None, :, None, None]
    symbols = np.rint(rng.laplace(0.0, 1.0, (3, CHANNELS, 48, 32)) * much * falling).clip(-4, 4).astype(np.int32)
    symbols[:, 0] = rng.integers(-2, 3, (3, 48, 32)).cumsum(1)
    return symbols
