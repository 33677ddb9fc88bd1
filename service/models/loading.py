"""Verify a model version and open its graphs."""

import dataclasses
import hashlib
import io
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.contract.manifest import MANIFEST_FILE, Graph, Manifest, Task, TensorSpec
from service.contract.plane_coder import golden_symbols
from service.contract.tables import TABLES_FILE, Compression
from service.contract.version import parse_manifest
from service.errors import BrokenContainer, ModelRejected, NotReady, reason_of, shown, without_prefix
from service.limits import Limits
from service.models.directory import is_there
from service.models.job import Outputs
from service.models.model import Model
from service.models.onnx_guard import check_onnx
from service.models.provider import Provider
from service.models.session import Floats, Session, Tensor
from service.telemetry.counters import Meters

_DTYPES = {"tensor(float)": "float32"}


def read_manifest(directory: Path, *, sha256: str | None = None) -> Manifest:
    """Read the manifest of `models/<name>/<version>` and check its name and version.

    Raises:
        ModelRejected: The manifest is missing or invalid, names another version, or its digest is not `sha256`.
    """
    content, tables = _read(directory / MANIFEST_FILE), directory / TABLES_FILE
    if sha256 not in {None, hashlib.sha256(content).hexdigest()}:
        raise ModelRejected(f"{MANIFEST_FILE} was changed while the version was being checked")
    try:
        manifest = parse_manifest(content, _read(tables) if is_there(tables) else None)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or MANIFEST_FILE
        raise ModelRejected(
            f"{MANIFEST_FILE}: {where}: {without_prefix(first['msg'])} ({error.error_count()} problems)"
        ) from error
    except ValueError as error:
        raise ModelRejected(reason_of(error)) from error
    if (manifest.name, str(manifest.version)) != (directory.parent.name, directory.name):
        raise ModelRejected(f"{MANIFEST_FILE} is of {manifest.name}/{manifest.version}, found in {directory}")
    return manifest


def load_model(
    directory: Path,
    *,
    provider: Provider,
    limits: Limits,
    meters: Meters | None = None,
    manifest_sha256: str | None = None,
) -> Model:
    """Load a model after every check: checksums, operators, weights, signatures, golden outputs.

    The model is warm afterwards. The first run of a graph may need any amount of time and memory, so it happens in a
    child process first: see `service.models.probe`.

    Args:
        directory: `models/<name>/<version>`.
        provider: What runs the graphs, from `session.start_provider`.
        limits: Limits of batches, pixels and threads.
        meters: Counters of the worker; a separate set if omitted.
        manifest_sha256: Digest of the manifest that passed the probe. It contains the digests of all other files.

    Raises:
        ModelRejected: A file does not match the manifest.
    """
    manifest = read_manifest(directory, sha256=manifest_sha256)
    golden = _read_golden(directory, manifest)
    session_by_task: dict[Task, Session] = {}
    for task, graph in manifest.tasks.items():
        try:
            path = directory / graph.file
            content = _read_verified(path, graph.sha256)
            check_onnx(content)
            read_again = partial(_read_again, path, graph.sha256)
            session = Session(content, provider=provider, threads=limits.threads, read_again=read_again)
            _check_signature(session, task, graph, manifest)
            _check_golden(session, task, golden, manifest.golden.tolerance)
        except ModelRejected as error:
            raise ModelRejected(f"{task}: {error}") from error
        session_by_task[task] = session
    if manifest.compression is not None:
        _check_coder(manifest.compression, golden)
    limits = dataclasses.replace(limits, max_batch_pixels=provider.batch_pixels(limits.max_batch_pixels))
    return Model(manifest, session_by_task, limits, meters or Meters())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelRejected(f"{path.name} cannot be read: {error.strerror}") from error


def _read_verified(path: Path, sha256: str) -> bytes:
    content = _read(path)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ModelRejected(f"{path.name} has sha256 {found[:12]}…, its manifest says {sha256[:12]}…: it was changed")
    return content


def _read_again(path: Path, sha256: str) -> bytes:
    """Read the file of a graph that was closed while idle.

    Raises:
        NotReady: The file is gone or changed. The registry notices that within `watch_interval_s`, too.
    """
    try:
        return _read_verified(path, sha256)
    except ModelRejected as error:
        raise NotReady(f"the model was closed while idle, and cannot be opened again: {error}") from error


def _check_signature(session: Session, task: Task, graph: Graph, manifest: Manifest) -> None:
    """Check that the graph has the declared tensors, and that they match the model's input size and latent."""
    for real, declared in ((session.inputs, graph.inputs), (session.outputs, graph.outputs)):
        if [t.name for t in real] != [t.name for t in declared]:
            raise ModelRejected(
                f"the graph has tensors {[t.name for t in real]}, declared are {[t.name for t in declared]}"
            )
        for tensor, spec in zip(real, declared, strict=True):
            _check_tensor(tensor, spec)
    for spec in graph.inputs:
        _check_contract(spec, manifest, scale=1)
    for spec in graph.outputs:
        _check_contract(spec, manifest, scale=manifest.enhance.scale if manifest.enhance and task == "enhance" else 1)


def _check_tensor(real: Tensor, declared: TensorSpec) -> None:
    if _DTYPES.get(real.dtype) != declared.dtype:
        raise ModelRejected(f"{real.name} is {real.dtype} in the graph, declared is {declared.dtype}")
    # Only sizes are compared: exporters name dynamic axes as they like.
    sizes = [axis if isinstance(axis, int) else None for axis in real.shape]
    if sizes != [axis if isinstance(axis, int) else None for axis in declared.shape]:
        raise ModelRejected(f"{real.name} is {list(real.shape)} in the graph, declared is {list(declared.shape)}")


def _check_contract(spec: TensorSpec, manifest: Manifest, *, scale: int) -> None:
    channels = manifest.input.channels
    height, width = (side and side * scale for side in (manifest.input.height, manifest.input.width))
    latent = manifest.latent.dim if manifest.latent else None
    symbols = manifest.compression.symbol_shape if manifest.compression else ()
    expected: dict[str, tuple[int | str | None, ...]] = {
        "x": (None, channels, height, width),
        "x_hat": (None, channels, height, width),
        "sigma": (None,),
        "e": (None, *spec.shape[1:]),  # checked by the manifest
        "label": (None,),
        "z": (None, latent),
        "rate": (None,),
        "y": (None, *symbols),
        "symbols": (None, *symbols),
        "score": (None,),
        "distance": (None,),
        "map": (None, height, width),
    }
    sizes = tuple(axis if isinstance(axis, int) else None for axis in spec.shape)
    if sizes != expected[spec.name]:
        raise ModelRejected(
            f"{spec.name} is {list(spec.shape)}; its input, latent and tables say {list(expected[spec.name])}"
        )


def _read_golden(directory: Path, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    content = _read_verified(directory / manifest.golden.file, manifest.golden.sha256)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ModelRejected(f"{manifest.golden.file} is not an NPZ file: {reason_of(error)}") from error


def _check_golden(session: Session, task: Task, golden: dict[str, Floats], tolerance: float) -> None:
    inputs, outputs = [t.name for t in session.inputs], [t.name for t in session.outputs]
    if missing := [name for tensor in (*inputs, *outputs) if (name := f"{task}.{tensor}") not in golden]:
        raise ModelRejected(f"the golden sample lacks {', '.join(missing)}")
    try:
        results: Outputs = session.run(*(golden[f"{task}.{name}"] for name in inputs), shrink=True)
    except Exception as error:
        raise ModelRejected(f"the golden sample does not run: {reason_of(error, limit=300)}") from error
    for name, result in zip(outputs, results, strict=True):
        expected = golden[f"{task}.{name}"]
        if result.shape != expected.shape:
            raise ModelRejected(f"{name} of the golden sample is {result.shape}, recorded is {expected.shape}")
        difference = np.abs(result.astype(np.float64) - expected)
        allowed = tolerance * (1 + np.abs(expected.astype(np.float64)))
        if not np.all(difference <= allowed):  # not "any greater": NaN must fail too
            raise ModelRejected(
                f"{name} of the golden sample differs by {shown(float(difference.max()))}, tolerance is {tolerance}"
            )


def _check_coder(compression: Compression, golden: dict[str, Floats]) -> None:
    """Check that the range coder decodes the golden file to the recorded symbols."""
    symbols, rates = golden["decompress.symbols"], set(golden["decompress.rate"].tolist())
    if len(rates) != 1 or not rates <= set(range(len(compression.rates))):
        raise ModelRejected(f"decompress: the golden sample has the rates {shown(sorted(rates))}; the model has others")
    try:
        found = golden_symbols(compression, symbols.shape, int(rates.pop()))
    except BrokenContainer as error:
        raise ModelRejected(f"decompress: the golden file cannot be read: {reason_of(error)}") from error
    if not np.array_equal(found, symbols):
        raise ModelRejected("decompress: the golden file does not decode to the recorded symbols: the tables differ")
