"""BentoML: `python -m bentoml serve benchmarks.peers.bentoml:GraphService --port PORT --arg graph=GRAPH`.

Its adaptive batching is on. A batchable API takes and returns a list, and BentoML cannot return a list of images, so
pictures are received as a form and answers returned as base64 in JSON. A second service in front could answer a file,
but would be one more process on the same core.
"""

import base64

import bentoml
import numpy as np
from PIL.Image import Image
from pydantic import BaseModel

from benchmarks.peers.graph import Graph

MAX_BATCH = 64
# Not a window: what waits longer is answered 503. BentoML learns how long waiting pays from its own measurements.
MAX_LATENCY_MS = 10_000


class Arguments(BaseModel):
    """Options set by `--arg`."""

    graph: str


@bentoml.service(
    workers=1,
    threads=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class GraphService:
    """One process that decodes, runs and encodes a batch in a thread."""

    def __init__(self) -> None:
        self.graph = Graph(bentoml.use_arguments(Arguments).graph)

    # Its types are unknown outside its own environment.
    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)  # type: ignore[untyped-decorator]
    def predict(self, images: list[Image]) -> list[str]:
        """Return the answers as base64."""
        x = np.stack([self.graph.place(image) for image in images])
        return [base64.b64encode(self.graph.encode(y)).decode() for y in self.graph.run(x)]
