"""Verification of a model directory against its manifest, with onnxruntime alone."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import MANIFEST_FILE, Manifest
from service.contract.plane_coder import golden_symbols
from service.contract.tables import Compression
from service.contract.version import manifest_of
from training.errors import VerifyError
from training.exported import run_graph


def verify(directory: Path) -> Manifest:
    """Check every file of a version against its manifest, run every golden sample, and return the manifest.

    Raises:
        VerifyError: A file or output is missing or differs; the message names it.
    """
    try:
        manifest = manifest_of(directory)
    except FileNotFoundError as error:
        raise VerifyError(f"{directory} holds no {MANIFEST_FILE}") from error
    except ValueError as error:
        raise VerifyError(f"{directory / MANIFEST_FILE}: {error}") from error
    files = {graph.file: graph.sha256 for graph in manifest.tasks.values()}
    files[manifest.golden.file] = manifest.golden.sha256
    for file, sha256 in files.items():
        path = directory / file
        if not path.is_file():
            raise VerifyError(f"{directory} holds no {file}")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != sha256:
            raise VerifyError(f"{path}: SHA-256 is {found}, its manifest says {sha256}")
    with np.load(directory / manifest.golden.file, allow_pickle=False) as golden:
        for task, graph in manifest.tasks.items():
            outputs = run_graph(directory / graph.file, *(golden[f"{task}.{tensor.name}"] for tensor in graph.inputs))
            for spec, output in zip(graph.outputs, outputs, strict=True):
                expected = golden[f"{task}.{spec.name}"]
                worst = float(np.max(np.abs(output - expected) / (1 + np.abs(expected))))
                if not worst <= manifest.golden.tolerance:
                    raise VerifyError(
                        f"{directory / graph.file}: {spec.name} differs from the golden sample by {worst:.2e}, more "
                        f"than {manifest.golden.tolerance:.0e}"
                    )
        if manifest.compression is not None:
            _check_golden_file(directory, manifest.compression, golden["decompress.symbols"], golden["decompress.rate"])
    return manifest


def _check_golden_file(
    directory: Path, compression: Compression, symbols: NDArray[np.float32], rate: NDArray[np.float32]
) -> None:
    if not np.array_equal(golden_symbols(compression, symbols.shape, int(rate[0])), symbols):
        raise VerifyError(f"{directory}: the golden file of its manifest gives other symbols than the golden sample")
