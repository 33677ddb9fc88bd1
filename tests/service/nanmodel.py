"""A model for anomalies that ignores pixels."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from tests.service.toymodels import SCORES, make_graph, publish_toy


def publish_ignoring(models_dir: Path, *, name: str = "toy", side: int = 32) -> Path:
    """Publish a grey model whose map is x^2, and 0 where x is NaN. Its score is the largest value of the map."""
    node = helper.make_node
    graph = make_graph(
        [
            node("IsNaN", ["x"], ["missing"]),
            node("Where", ["missing", "zero", "x"], ["kept"]),
            node("Mul", ["kept", "kept"], ["square"]),
            node("ReduceMean", ["square"], ["map"], axes=[1], keepdims=0),
            node("ReduceMax", ["map"], ["score"], axes=[1, 2], keepdims=0),
        ],
        {"x": ["n", 1, side, side]},
        {"score": ["n"], "map": ["n", side, side]},
        {"zero": np.array(0, np.float32)},
    )
    looks = {"brightness": (0.3, 0.5), "contrast": (0.0, 0.0), "sharpness": (0.0, 0.0)}
    anomaly: dict[str, Any] = {
        "score": "max of x^2", "target_fpr": 0.05, "threshold": 0.95, "scores": SCORES, "map_peaks": SCORES,
        "learnt": {"widths": (side, side), "heights": (side, side), "looks": looks}, "takes_nan": True,
    }  # fmt: skip
    changes = {"anomaly": anomaly, "latent": None}
    return publish_toy(models_dir, name=name, side=side, graphs={"anomaly": graph}, manifest_changes=changes)
