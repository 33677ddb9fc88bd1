"""LitServe: `python -m benchmarks.peers.litserve PORT GRAPH`.

Its batching is on. Request and response bodies are files. A form works too, but its copies between LitServe's processes
cost a sixth to a third more CPU. It has one API process and one inference process, as required, both on the one core.
"""

import sys
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body, Response
from numpy.typing import NDArray

from benchmarks.peers.graph import Graph

MAX_BATCH = 64
BATCH_TIMEOUT_S = 0.0  # take what has queued, as by default: 1, 5, 20 and 50 ms were slower or as fast, 1 to 64 clients


class GraphAPI(litserve.LitAPI):  # type: ignore[misc]  # its types are unknown outside its own environment
    """The steps of LitServe's request cycle: decode, batch, predict, unbatch, encode."""

    graph: Graph

    def __init__(self, path: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S, api_path="/predict")
        self.path = path

    def setup(self, device: str) -> None:
        self.graph = Graph(self.path)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/*")]) -> NDArray[np.float32]:
        return self.graph.decode(request)

    def batch(self, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(inputs)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.graph.run(x)

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> Response:
        return Response(self.graph.encode(output), media_type=self.graph.media_type)


def main(port: str, graph: str) -> None:
    """Serve until it is stopped."""
    server = litserve.LitServer(GraphAPI(graph), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", access_log=False, generate_client_file=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
