"""LitServe: `python -m benchmarks.peers.litserve PORT GRAPH`.

Its own batching is on. It takes a file of a form, and answers with a response that `encode_response` makes: PNG in and
PNG out. One API process and one inference process, as it wants; both on the one core.
"""

import sys

import litserve
import numpy as np
import onnxruntime
from fastapi import Response
from numpy.typing import NDArray

from benchmarks.peers.picture import decode, encode, open_session

MAX_BATCH = 64
BATCH_TIMEOUT_S = 0.001


class Denoiser(litserve.LitAPI):  # type: ignore[misc]  # its types are unknown outside its own environment
    """Each step of LitServe's own cycle: decode, batch, predict, unbatch, encode."""

    session: onnxruntime.InferenceSession

    def __init__(self, graph: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S, api_path="/denoise")
        self.graph = graph

    def setup(self, device: str) -> None:
        self.session = open_session(self.graph)

    def decode_request(self, request) -> NDArray[np.float32]:  # noqa: ANN001  # without a type it is the form
        return decode(request["file"].file.read())

    def batch(self, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(inputs)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        (x_hat,) = self.session.run(None, {"x": x})
        return x_hat

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> Response:
        return Response(encode(output), media_type="image/png")


def main(port: str, graph: str) -> None:
    """Serves until it is stopped."""
    server = litserve.LitServer(Denoiser(graph), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", access_log=False, generate_client_file=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
