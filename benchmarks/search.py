"""How long an exact search takes, and what it finds: our store beside FAISS and NumPy, on the same vectors, in one run.

    python -m benchmarks.search                            1 million items of 32 numbers, on one core
    PYTHONPATH=.:FOLDER python -m benchmarks.search        with faiss-cpu: `pip install --target FOLDER faiss-cpu`

"Store" is the whole call that a search makes: a transaction, the collection, the nearest vectors by sqlite-vec, and
their ids, labels and metadata. FAISS (IndexFlatL2) and NumPy (one product, then a partition) have all vectors in memory
and give numbers of rows only. Recall is the share of the true k nearest, in float64, that each finds.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from tqdm import tqdm  # noqa: E402

from service.collections.store import Bounds, Encoder, Item, Store, open_store  # noqa: E402

Floats = NDArray[np.float32]
Search = Callable[[Floats], list[int]]
_BATCH = 5000


def fill(store: Store, x: Floats) -> None:
    """All rows as items of the collection "c", every other one with a label."""
    encoder = Encoder("benchmark", 1, "0" * 64, x.shape[1])
    bounds = Bounds(1, len(x))
    for start in tqdm(range(0, len(x), _BATCH), desc="filling the store", unit_scale=_BATCH, unit=" items"):
        rows = x[start : start + _BATCH]
        items = [Item(str(start + i), row, "label" if i % 2 else None) for i, row in enumerate(rows)]
        store.put("c", encoder, items, bounds)


def by_faiss(x: Floats, k: int) -> Search | None:
    """None where FAISS is not installed."""
    try:
        import faiss  # noqa: PLC0415  a peer: not a package of this project
    except ImportError:
        print("FAISS is left out: `pip install --target FOLDER faiss-cpu`, and FOLDER into PYTHONPATH")
        return None
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)

    def search(q: Floats) -> list[int]:
        found: list[int] = index.search(q[None], k)[1][0].tolist()
        return found

    return search


def by_numpy(x: Floats, k: int) -> Search:
    """One matrix product, as |x - q|^2 = |x|^2 - 2 x q + |q|^2."""
    squares = np.einsum("nd,nd->n", x, x)

    def search(q: Floats) -> list[int]:
        distances = squares - 2 * (x @ q)
        nearest = np.argpartition(distances, k)[:k]
        found: list[int] = nearest[np.argsort(distances[nearest])].tolist()
        return found

    return search


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--postgres", metavar="URL", help="a PostgreSQL with pgvector to measure as well")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.items, options.dim), np.float32)
    queries = rng.standard_normal((options.queries, options.dim), np.float32)
    truth = [set(by_float64(x, q, options.k)) for q in queries]
    with tempfile.TemporaryDirectory() as folder:
        stores = {"SQLite": open_store(f"sqlite:///{folder}/items.db")}
        if options.postgres:
            stores["PostgreSQL"] = open_store(options.postgres)
        searches: dict[str, Search | None] = {}
        for name, store in stores.items():
            fill(store, x)
            searches[f"store, {name}"] = by_store(store, options.k, is_labelled=False)
            searches[f"store, {name}, labelled half"] = by_store(store, options.k, is_labelled=True)
        size = (Path(folder) / "items.db").stat().st_size
        print(f"file: {size / 1e6:.0f} MB, the vectors alone {x.nbytes / 1e6:.0f} MB")
        searches |= {"FAISS IndexFlatL2": by_faiss(x, options.k), "NumPy": by_numpy(x, options.k)}
        measure({name: search for name, search in searches.items() if search is not None}, queries, truth)
        for store in stores.values():
            store.drop("c")
            store.close()


def by_float64(x: Floats, q: Floats, k: int) -> list[int]:
    """The true nearest."""
    distances = np.zeros(len(x))
    for column, value in zip(x.T, q, strict=True):  # column by column: no float64 copy of all
        distances += (column.astype(np.float64) - float(value)) ** 2
    found: list[int] = np.argsort(distances)[:k].tolist()
    return found


def by_store(store: Store, k: int, *, is_labelled: bool) -> Search:
    """Our own."""
    return lambda q: [int(n.id) for n in store.search("c", q, k=k, is_labelled=is_labelled)]


def measure(searches: dict[str, Search], queries: Floats, truth: list[set[int]]) -> None:
    """The queries go to one after another in turn, so that whatever else the machine does slows all of them."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in searches}
    hits = dict.fromkeys(searches, 0)
    for q, nearest in zip(queries, truth, strict=True):
        for name, search in searches.items():
            wall, cpu = time.perf_counter(), time.process_time()
            found = search(q)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            hits[name] += len(nearest & set(found))
    total = sum(map(len, truth))
    print(f"{'':34}{'median ms':>10}{'p95 ms':>8}{'CPU ms':>8}{'recall':>8}")
    for name, pairs in seconds.items():
        wall_ms, cpu_ms = np.array(pairs).T * 1e3
        recall = "" if "labelled" in name else f"{hits[name] / total:8.4f}"
        print(
            f"{name:34}{np.median(wall_ms):10.1f}{np.percentile(wall_ms, 95):8.1f}{np.median(cpu_ms):8.1f}{recall:>8}"
        )


if __name__ == "__main__":
    main()
