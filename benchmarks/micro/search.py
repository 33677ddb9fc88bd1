"""Time and recall of exact search: our store, FAISS and NumPy, on the same vectors, in one run.

    python -m benchmarks.micro search                      1 million items of 32 numbers, on one core
    PYTHONPATH=.:FOLDER python -m benchmarks.micro search  with faiss-cpu: `pip install --target FOLDER faiss-cpu`

"Store" is the complete call of a search: a transaction, the collection, the nearest vectors by sqlite-vec, and their
ids, labels and metadata. FAISS (IndexFlatL2) and NumPy (one product, then a partition) hold all vectors in memory and
return row numbers only. Recall is the share of the true k nearest, in float64, that each finds.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks.micro.case import parser_of  # noqa: E402
from benchmarks.optional import optional  # noqa: E402
from benchmarks.page import table  # noqa: E402
from service.collections.store import Bounds, Encoder, Item, Store, open_store  # noqa: E402

Floats = NDArray[np.float32]
Search = Callable[[Floats], list[int]]
_BATCH = 5000


def fill(store: Store, x: Floats) -> None:
    """Store all rows as items of the collection "c", every other one with a label."""
    encoder = Encoder("benchmark", 1, "0" * 64, x.shape[1])
    bounds = Bounds(1, len(x))
    for start in tqdm(range(0, len(x), _BATCH), desc="filling the store", unit_scale=_BATCH, unit=" items"):
        rows = x[start : start + _BATCH]
        items = [Item(str(start + i), row, "label" if i % 2 else None) for i, row in enumerate(rows)]
        store.put("c", encoder, items, bounds)


def by_faiss(x: Floats, k: int) -> Search | None:
    """Return a search by FAISS, or None if it is not installed."""
    faiss = optional("faiss")
    if faiss is None:
        tqdm.write("FAISS is left out: `pip install --target FOLDER faiss-cpu`, and FOLDER into PYTHONPATH")
        return None
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)

    def search(q: Floats) -> list[int]:
        found: list[int] = index.search(q[None], k)[1][0].tolist()
        return found

    return search


def by_numpy(x: Floats, k: int) -> Search:
    """Return a search by one matrix product, as |x - q|^2 = |x|^2 - 2 x q + |q|^2."""
    squares = np.einsum("nd,nd->n", x, x)

    def search(q: Floats) -> list[int]:
        distances = squares - 2 * (x @ q)
        nearest = np.argpartition(distances, k)[:k]
        found: list[int] = nearest[np.argsort(distances[nearest])].tolist()
        return found

    return search


def measure(words: Sequence[str]) -> str:
    """Measure and lay out a table."""
    parser = parser_of("search", __doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--postgres", metavar="URL", help="a PostgreSQL with pgvector to measure as well")
    options = parser.parse_args(words)
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
        sizes = f"file: {size / 1e6:.0f} MB, the vectors alone {x.nbytes / 1e6:.0f} MB"
        searches |= {"FAISS IndexFlatL2": by_faiss(x, options.k), "NumPy": by_numpy(x, options.k)}
        text = ask({name: search for name, search in searches.items() if search is not None}, queries, truth)
        for store in stores.values():
            store.drop("c")
            store.close()
    return f"{sizes}\n\n{text}"


def by_float64(x: Floats, q: Floats, k: int) -> list[int]:
    """Return the true nearest neighbours, computed in float64."""
    distances = np.zeros(len(x))
    for column, value in zip(x.T, q, strict=True):  # column by column: no float64 copy of all
        distances += (column.astype(np.float64) - float(value)) ** 2
    found: list[int] = np.argsort(distances)[:k].tolist()
    return found


def by_store(store: Store, k: int, *, is_labelled: bool) -> Search:
    """Return a search by one of our stores."""
    return lambda q: [int(n.id) for n in store.search("c", q, k=k, is_labelled=is_labelled)]


def ask(searches: dict[str, Search], queries: Floats, truth: list[set[int]]) -> str:
    """Run every query on all searches in turn, so that other load slows all of them alike. Return a table."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in searches}
    hits = dict.fromkeys(searches, 0)
    for q, nearest in tqdm(zip(queries, truth, strict=True), total=len(queries), unit="query", leave=False):
        for name, search in searches.items():
            wall, cpu = time.perf_counter(), time.process_time()
            found = search(q)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            hits[name] += len(nearest & set(found))
    total = sum(map(len, truth))
    rows = []
    for name, pairs in seconds.items():
        wall_ms, cpu_ms = np.array(pairs).T * 1e3
        recall = "" if "labelled" in name else f"{hits[name] / total:.4f}"
        times = (np.median(wall_ms), np.percentile(wall_ms, 95), np.median(cpu_ms))
        rows.append([name, *(f"{ms:.1f}" for ms in times), recall])
    return table(["", "median ms", "p95 ms", "CPU ms", "recall"], rows)
