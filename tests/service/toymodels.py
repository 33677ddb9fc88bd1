"""Tiny ONNX graphs made node by node, and the model directories around them."""

import hashlib
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from service.contract.manifest import TENSORS_BY_TASK, Manifest, Task
from service.contract.range_coder import pack_symbols
from service.contract.sections import LevelEstimator, Noise
from service.contract.tables import TABLE_TOTAL, Compression, RatePoint, SymbolTable, digest_of
from service.models.provider import CPU
from service.models.session import Session

SCORES = tuple(float(i) / 100 for i in range(99))  # calibration: 0.00, 0.01 ... 0.98; so n + 1 is 100
LATENT_DIM = 4
GOLDEN_SYMBOLS = np.array([[0, 1, 2, 3], [4, 0, 1, 2]], np.float32)  # of `publish_codec`

GOLDEN_GRID = np.arange(2 * 64 * 2 * 3, dtype=np.float32).reshape(2, 64, 2, 3) % 7 - 3  # of `publish_plane_codec`

Axis = int | str


def make_graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[Axis]],
    outputs: dict[str, Sequence[Axis]],
    constants: dict[str, np.ndarray[Any, Any]] | None = None,
) -> bytes:
    """An ONNX file."""

    def infos(tensors: dict[str, Sequence[Axis]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in tensors.items()]

    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "toy", infos(inputs), infos(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def toy_graphs(channels: int, height: Axis, width: Axis, factor: float = 0.5) -> dict[Task, bytes]:
    """Graphs of all four tasks; encode and decode need a fixed size."""
    image: list[Axis] = ["n", channels, height, width]
    latent: list[Axis] = ["n", LATENT_DIM]
    node = helper.make_node
    graphs: dict[Task, bytes] = {
        "denoise": make_graph(
            [node("Mul", ["x", "factor"], ["x_hat"])],
            {"x": image},
            {"x_hat": image},
            {"factor": np.array(factor, np.float32)},
        ),
        "anomaly": make_graph(
            [
                node("Mul", ["x", "x"], ["square"]),
                node("ReduceMean", ["square"], ["map"], axes=[1], keepdims=0),
                node("ReduceMean", ["map"], ["score"], axes=[1, 2], keepdims=0),
            ],
            {"x": image},
            {"score": ["n"], "map": ["n", height, width]},
        ),
    }
    if isinstance(height, int) and isinstance(width, int) and channels == 1:
        graphs["encode"] = make_graph(
            [
                node(
                    "AveragePool",
                    ["x"],
                    ["means"],
                    kernel_shape=[height // 2, width // 2],
                    strides=[height // 2, width // 2],
                ),
                node("Flatten", ["means"], ["z"]),
            ],
            {"x": image},
            {"z": latent},
        )
        graphs["decode"] = make_graph(
            [
                node("Reshape", ["z", "grid"], ["quadrants"]),
                node(
                    "Resize",
                    ["quadrants", "", "scales"],
                    ["x_hat"],
                    mode="nearest",
                    nearest_mode="floor",
                    coordinate_transformation_mode="asymmetric",
                ),
            ],
            {"z": latent},
            {"x_hat": image},
            {"grid": np.array([-1, 1, 2, 2], np.int64), "scales": np.array([1, 1, height / 2, width / 2], np.float32)},
        )
    return graphs


def publish_blur(
    models_dir: Path,
    *,
    name: str = "blur",
    channels: int = 1,
    scale: int = 1,
    luma_only: bool = False,
    default_for: Sequence[Task] = (),
    weights: np.ndarray[Any, Any] | None = None,
    estimator: LevelEstimator | None = None,
    untold: float | None = None,
) -> Path:
    """A model of any size that sees two pixels far: the mean of 5x5, times 1 - sigma/510; or enlarged `scale` times.

    `weights` (5, 5) are those of the pixels around, if not all the same.
    """
    image: list[Axis] = ["n", channels, "height", "width"]
    large: list[Axis] = ["n", channels, "large_height", "large_width"]
    node = helper.make_node
    kernel = np.zeros((channels, channels, 5, 5), np.float32)
    for c in range(channels):
        kernel[c, c] = 1 / 25 if weights is None else weights
    blur = node("Conv", ["x", "kernel"], ["mean"], pads=[2, 2, 2, 2])
    if scale > 1:
        enlarge = node("Resize", ["mean", "", "scales"], ["x_hat"], mode="nearest", nearest_mode="floor",
                       coordinate_transformation_mode="asymmetric")  # fmt: skip
        scales = np.array([1, 1, scale, scale], np.float32)
        graph = make_graph([blur, enlarge], {"x": image}, {"x_hat": large}, {"kernel": kernel, "scales": scales})
        beside: dict[str, Any] = {"enhance": {"scale": scale, "luma_only": luma_only}}
    else:
        nodes = [
            blur,
            node("Reshape", ["sigma", "column"], ["level"]),
            node("Mul", ["level", "slope"], ["lost"]),
            node("Sub", ["one", "lost"], ["left"]),
            node("Mul", ["mean", "left"], ["x_hat"]),
        ]
        constants: dict[str, np.ndarray[Any, Any]] = {
            "kernel": kernel,
            "column": np.array([-1, 1, 1, 1], np.int64),
            "slope": np.array(1 / 510, np.float32),
            "one": np.array(1, np.float32),
        }
        graph = make_graph(nodes, {"x": image, "sigma": ["n"]}, {"x_hat": image}, constants)
        beside = {"noise": Noise(min_sigma=0.0, max_sigma=50.0, estimator=estimator, untold=untold).model_dump()}
    source = {"channels": channels, "height": None, "width": None, "multiple_of": 4, "halo": 2, "resize": "reject"}
    task: Task = "enhance" if scale > 1 else "denoise"
    return publish_toy(
        models_dir, name=name, channels=channels, side=None, graphs={task: graph}, default_for=default_for,
        manifest_changes={"input": source, "latent": None, **beside},
    )  # fmt: skip


def publish_generator(
    models_dir: Path,
    *,
    name: str = "prior",
    labels: Sequence[str] = ("dark", "light"),
    shares: Sequence[float] = (0.25, 0.75),
    tasks: Sequence[Task] = ("encode", "decode", "generate"),
    manifest_changes: dict[str, Any] | None = None,
) -> Path:
    """A grey 4x4 model that draws: each quadrant is 1/4 + label/2 + e/16; without labels, 1/2 + e/16."""
    image: list[Axis] = ["n", 1, 4, 4]
    node = helper.make_node
    enlarge = node("Resize", ["changes", "", "scales"], ["drawn"], mode="nearest", nearest_mode="floor",
                   coordinate_transformation_mode="asymmetric")  # fmt: skip
    nodes = [node("Mul", ["e", "step"], ["change"]), node("Reshape", ["change", "grid"], ["changes"]), enlarge]
    inputs: dict[str, Sequence[Axis]] = {"e": ["n", LATENT_DIM]}
    if labels:
        inputs["label"] = ["n"]
        nodes += [
            node("Reshape", ["label", "column"], ["index"]),
            node("Mul", ["index", "half"], ["above"]),
            node("Add", ["above", "quarter"], ["level"]),
        ]
    nodes.append(node("Add", ["drawn", "level" if labels else "half"], ["x_hat"]))
    constants: dict[str, np.ndarray[Any, Any]] = {
        "step": np.array(1 / 16, np.float32),
        "grid": np.array([-1, 1, 2, 2], np.int64),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "column": np.array([-1, 1, 1, 1], np.int64),
        "half": np.array(1 / 2, np.float32),
        "quarter": np.array(1 / 4, np.float32),
    }
    graphs = toy_graphs(1, 4, 4) | {"generate": make_graph(nodes, inputs, {"x_hat": image}, constants)}
    generate = {"labels": tuple(labels), "shares": tuple(shares) if labels else ()}
    return publish_toy(
        models_dir, name=name, graphs=graphs, tasks=tasks,
        manifest_changes={"generate": generate if "generate" in tasks else None} | (manifest_changes or {}),
    )  # fmt: skip


def publish_codec(
    models_dir: Path,
    *,
    name: str = "codec",
    version: int = 1,
    resize: str = "fit",
    first: int = 0,
    default_for: Sequence[Task] = (),
) -> Path:
    """A model of grey 4x4 images that writes the mean of each quadrant: in quarters (rate 0) or in sixteenths (rate 1).

    Symbols begin at `first`: with -1, say, a table has one that no image makes, and its digest is another.
    """
    image: list[Axis] = ["n", 1, 4, 4]
    symbols: list[Axis] = ["n", LATENT_DIM]
    node = helper.make_node
    gain = [
        node("Mul", ["rate", "twelve"], ["more"]),
        node("Add", ["more", "four"], ["flat_gain"]),  # 4 at rate 0, 16 at rate 1
        node("Reshape", ["flat_gain", "column"], ["gain"]),
    ]
    constants: dict[str, np.ndarray[Any, Any]] = {
        "twelve": np.array(12, np.float32),
        "four": np.array(4, np.float32),
        "column": np.array([-1, 1], np.int64),
    }
    compress = [
        node("AveragePool", ["x"], ["means"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["means"], ["z"]),
        node("Mul", ["z", "gain"], ["y"]),
    ]
    decompress = [
        node("Div", ["symbols", "gain"], ["z"]),
        node("Reshape", ["z", "grid"], ["quadrants"]),
        node(
            "Resize", ["quadrants", "", "scales"], ["x_hat"], mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
    ]  # fmt: skip
    resizing: dict[str, np.ndarray[Any, Any]] = {
        "grid": np.array([-1, 1, 2, 2], np.int64),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    graphs: dict[Task, bytes] = {
        "compress": make_graph([*gain, *compress], {"x": image, "rate": ["n"]}, {"y": symbols}, constants),
        "decompress": make_graph(
            [*gain, *decompress], {"symbols": symbols, "rate": ["n"]}, {"x_hat": image}, {**constants, **resizing}
        ),
    }
    rates = tuple(
        RatePoint(
            tables=(_falling_table(first, last),) * LATENT_DIM, images_per_file=1, bytes_per_image=size, psnr_db=20.0
        )
        for last, size in ((4, 52.0), (16, 53.0))
    )
    golden = pack_symbols(GOLDEN_SYMBOLS.astype(np.int32), rates[0].tables).hex()
    compression = Compression(rates=rates, default_rate=0, tables_sha256=digest_of(rates), golden=golden)
    return publish_toy(
        models_dir, name=name, version=version, resize=resize, graphs=graphs, default_for=default_for,
        manifest_changes={"latent": None, "compression": compression.model_dump()},
    )  # fmt: skip


def _falling_table(first: int, last: int) -> SymbolTable:
    """Every symbol half as likely as the one before, as far as that goes."""
    counts = [max(1, TABLE_TOTAL >> i + 1) for i in range(last - first + 1)]
    counts[0] += TABLE_TOTAL - sum(counts)
    return SymbolTable(first=first, counts=tuple(counts))


def publish_map(models_dir: Path, *, name: str = "map", examples: dict[str, Any] | None = None) -> Path:
    """A grey 4x4 model of two latents: the mean of the upper half and of the lower half, and back."""
    image: list[Axis] = ["n", 1, 4, 4]
    node = helper.make_node
    encode = [
        node("AveragePool", ["x"], ["means"], kernel_shape=[2, 4], strides=[2, 4]),
        node("Flatten", ["means"], ["z"]),
    ]
    decode = [
        node("Reshape", ["z", "halves"], ["rows"]),
        node("Resize", ["rows", "", "scales"], ["x_hat"], mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
    ]  # fmt: skip
    constants: dict[str, np.ndarray[Any, Any]] = {
        "halves": np.array([-1, 1, 2, 1], np.int64),
        "scales": np.array([1, 1, 2, 4], np.float32),
    }
    graphs: dict[Task, bytes] = {
        "encode": make_graph(encode, {"x": image}, {"z": ["n", 2]}),
        "decode": make_graph(decode, {"z": ["n", 2]}, {"x_hat": image}, constants),
    }
    latent = {"dim": 2, "mean": (0.5, 0.5), "std": (0.25, 0.25)}
    return publish_toy(models_dir, name=name, graphs=graphs, manifest_changes={"latent": latent, "examples": examples})


def publish_toy(
    models_dir: Path,
    *,
    name: str = "toy",
    version: int = 1,
    channels: int = 1,
    side: int | None = 4,
    multiple_of: int = 1,
    resize: str = "fit",
    factor: float = 0.5,
    tasks: Sequence[Task] | None = None,
    default_for: Sequence[Task] = (),
    graphs: dict[Task, bytes] | None = None,
    manifest_changes: dict[str, Any] | None = None,
) -> Path:
    """Writes `<models_dir>/<name>/<version>` as training does: everything under a hidden name, then one rename."""
    height, width = (side, side) if side else ("height", "width")
    made = graphs or toy_graphs(channels, height, width, factor)
    chosen = {task: made[task] for task in tasks or made}
    golden = _golden(chosen, channels, side or multiple_of * 4)
    manifest = {
        "name": name,
        "version": version,
        "created": datetime(2026, 11, 23, tzinfo=UTC),
        "summary": "Halves every pixel.",
        "architecture": "toy",
        "default_for": tuple(default_for),
        "tasks": {task: _graph_entry(task, graph) for task, graph in chosen.items()},
        "input": {
            "channels": channels,
            "height": side,
            "width": side,
            "multiple_of": multiple_of,
            "resize": resize,
        },
        "latent": {"dim": LATENT_DIM, "mean": (0.0,) * LATENT_DIM, "std": (1.0,) * LATENT_DIM},
        "anomaly": (
            {"score": "mean of x^2", "target_fpr": 0.05, "threshold": 0.95, "scores": SCORES, "map_peaks": SCORES}
            if "anomaly" in chosen
            else None
        ),
        "golden": {"file": "golden.npz", "sha256": _sha256(golden), "tolerance": 1e-5},
        "metrics": (),
        "provenance": PROVENANCE,
        "limits": ("a toy",),
        **(manifest_changes or {}),
    }
    content = Manifest.model_validate(manifest).model_dump_json()
    hidden = models_dir / name / f".tmp-{version}"
    hidden.mkdir(parents=True)
    for task, graph in chosen.items():
        (hidden / f"{task}.onnx").write_bytes(graph)
    (hidden / "golden.npz").write_bytes(golden)
    (hidden / "manifest.json").write_text(content)
    return hidden.rename(models_dir / name / str(version))


def replace_graph(directory: Path, task: Task, graph: bytes) -> None:
    """Puts another graph into a published version, with its digest in the manifest; the golden sample stays."""
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    document["tasks"][task]["sha256"] = _sha256(graph)
    (directory / f"{task}.onnx").write_bytes(graph)
    path.write_text(json.dumps(document))


def _golden(graphs: dict[Task, bytes], channels: int, side: int) -> bytes:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for task, graph in graphs.items():
        session = Session(graph, provider=CPU, threads=1)
        is_vector = task in {"decode", "generate"}
        shape = (2, int(session.inputs[0].shape[1] or 0)) if is_vector else (2, channels, side, side)
        inputs = [rng.random(shape if i == 0 else shape[:1], np.float32) for i in range(len(session.inputs))]
        if task in {"compress", "decompress"}:
            symbols = GOLDEN_SYMBOLS if session.inputs[0].shape[1] == LATENT_DIM else GOLDEN_GRID
            inputs = [symbols if task == "decompress" else inputs[0], np.zeros(2, np.float32)]
        arrays |= {f"{task}.{tensor.name}": x for tensor, x in zip(session.inputs, inputs, strict=True)}
        outputs = zip(TENSORS_BY_TASK[task][1], session.run(*inputs), strict=True)
        arrays |= {f"{task}.{name}": y for name, y in outputs}
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays for its own options
    return file.getvalue()


def _graph_entry(task: Task, graph: bytes) -> dict[str, Any]:
    parsed = onnx.load_from_string(graph).graph

    def specs(tensors: Sequence[onnx.ValueInfoProto]) -> list[dict[str, Any]]:
        return [
            {
                "name": tensor.name,
                "dtype": "float32",
                "shape": [axis.dim_param or axis.dim_value for axis in tensor.type.tensor_type.shape.dim],
            }
            for tensor in tensors
        ]

    return {
        "file": f"{task}.onnx",
        "sha256": _sha256(graph),
        "opset": 17,
        "inputs": specs(parsed.input),
        "outputs": specs(parsed.output),
        "parity": {"max_abs_diff": 0.0, "tolerance": 1e-4},
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


PROVENANCE = {
    "data": {
        "name": "none",
        "source": "made by hand",
        "licence": "CC0-1.0",
        "sha256": "0" * 64,
        "images": 1,
        "split": {"train": 1, "validation": 0, "calibration": 0, "test": 0},
    },
    "seed": 0,
    "config": {},
    "command": "none",
    "commit": "none",
    "torch_version": "none",
    "device": "cpu",
    "parameters": 1,
    "images_seen": 1,
    "wall_s": 0.0,
    "cpu_s": 0.0,
}
