"""Time of a part in `hazelnut` and in anomalib's PaDiM and PatchCore, through anomalib's own inferencers.

    pip install anomalib openvino               # in an environment for it, with the training packages
    TRUST_REMOTE_CODE=1 python -m benchmarks.micro inferencers --data hazelnut_toy/train/good

Both models of anomalib learn from the pictures in `--data`, on the weights of Lite0 that our detector has, and are
exported as anomalib does. Each inferencer reads tests/data/hazelnut.jpg at 256x256 and answers with score and map, on
one thread and in float32. `hazelnut` runs in OpenVINO and in onnxruntime after the same reader.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.micro.case import Case, parser_of, show
from benchmarks.models.peers.anomaly import AnomalibPadim, AnomalibPatchcore
from benchmarks.optional import optional
from benchmarks.service import newest
from benchmarks.serving.beside_bare import hazelnut
from training.anomaly.backbone import Lite0
from training.config import DataConfig
from training.images.folder import find_images
from training.images.pixels import stack
from training.images.reader import read_image

SIDE = 256
ONE_THREAD = {"INFERENCE_NUM_THREADS": "1", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


class Exported(nn.Module):
    """Pixels in [0, 1], (N, 3, H, W), to the answer of a model of anomalib."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401  anomalib is optional
        return self.model((x * 255.0 - 127.0) / 128.0)


def measure(words: Sequence[str]) -> str:
    """Measure and return a table with a row per model."""
    parser = parser_of("inferencers", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of good pictures")
    good: Path = parser.parse_args(words).data
    torch.set_num_threads(1)
    logging.getLogger("anomalib").setLevel(logging.ERROR)
    size = DataConfig(height=SIDE, width=SIDE, resize="exact")
    images = stack([read_image(path, size) for path in find_images(good)])
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    # anomalib writes a cache of OpenVINO where it is started.
    with TemporaryDirectory(prefix="hourglass-bench-") as folder, contextlib.chdir(folder):
        (picture := Path(folder) / "part.jpg").write_bytes(hazelnut(SIDE, SIDE, "JPEG"))
        for kind in (AnomalibPadim, AnomalibPatchcore):
            peer = kind(Lite0(), seed=0)
            peer.fit(images)
            runs |= {(kind.name, way): run for way, run in _ways(peer.model, picture).items()}
        graph = newest("hazelnut") / "anomaly.onnx"
        runs |= {("hazelnut", way): run for way, run in _of_graph(graph, picture).items()}
        return show(Case("model", "ms", runs))


def _ways(model: nn.Module, picture: Path) -> dict[str, Callable[[], object]]:
    """Export a model beside the picture and return a function for each inferencer that opens it."""
    deploy: Any = optional("anomalib.deploy")
    exported, checkpoint, graph = Exported(model).eval(), picture.with_suffix(".pt"), picture.with_suffix(".onnx")
    torch.save({"model": exported}, checkpoint)
    by_torch = deploy.TorchInferencer(checkpoint, device="cpu")
    names = ["pred_score", "anomaly_map"]
    example = (torch.zeros(1, 3, SIDE, SIDE),)
    torch.onnx.export(
        exported, example, graph, dynamo=False, opset_version=17, input_names=["input"], output_names=names
    )
    return {"TorchInferencer": lambda: by_torch.predict(picture), **_of_graph(graph, picture)}


def _of_graph(graph: Path, picture: Path) -> dict[str, Callable[[], object]]:
    """Return a function for each engine that runs a graph on a picture file."""
    deploy: Any = optional("anomalib.deploy")
    data: Any = optional("anomalib.data.utils")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    by_openvino = deploy.OpenVINOInferencer(graph, device="CPU", config=ONE_THREAD)

    def in_openvino() -> object:
        if name == "input":  # of anomalib
            return by_openvino.predict(picture)
        return by_openvino.model({name: by_openvino.pre_process(data.read_image(picture))})

    def in_onnxruntime() -> object:
        x = np.ascontiguousarray(data.read_image(picture).transpose(2, 0, 1)[np.newaxis], np.float32)
        return session.run(None, {name: x})

    return {"OpenVINOInferencer": in_openvino, "onnxruntime": in_onnxruntime}
