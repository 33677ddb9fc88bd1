"""BentoML: `python -m bentoml serve benchmarks.peers.bentoml:Denoiser --port PORT --arg graph=GRAPH`.

Its adaptive batching is on. A batchable API takes and returns a list, and BentoML cannot return a list of images, so
PNG files are received as a form and returned as base64 in JSON. A second service in front could answer a PNG, but would
be one more process on the same core.
"""

import base64

import bentoml
import numpy as np
from PIL.Image import Image
from pydantic import BaseModel

from benchmarks.peers.picture import encode, open_session

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
class Denoiser:
    """One process that decodes, runs and encodes a batch in a thread."""

    def __init__(self) -> None:
        self.session = open_session(bentoml.use_arguments(Arguments).graph)

    # Its types are unknown outside its own environment.
    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)  # type: ignore[untyped-decorator]
    def denoise(self, images: list[Image]) -> list[str]:
        """Return the clean images, as base64 of PNG."""
        x = np.stack([np.asarray(image.convert("L"), np.float32)[np.newaxis] for image in images]) / np.float32(255)
        (x_hat,) = self.session.run(None, {"x": x})
        return [base64.b64encode(encode(image)).decode() for image in x_hat]
