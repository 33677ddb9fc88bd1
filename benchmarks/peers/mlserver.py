"""MLServer: `python -m benchmarks.peers.mlserver PORT GRAPH`.

Its adaptive batching is on. It uses the V2 inference protocol, with bytes as base64 in JSON, both ways. The model runs
inside the server process (`parallel_workers=0`), since a second process on the same core would only add cost.
"""

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import Base64Codec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop

from benchmarks.peers.graph import Graph

MAX_BATCH = 64
# Batching needs more than 0. With 1 to 10 ms a single client got 1.5 to 5 times fewer answers, 16 clients a fifth fewer
# or worse; 64 clients got as many within the noise, with 10 ms perhaps a sixth more.
BATCH_TIME_S = 0.0001


class GraphModel(MLModel):  # type: ignore[misc]  # its types are unknown outside its own environment
    """A custom runtime, which receives a batch as one request."""

    async def load(self) -> bool:
        self.graph = Graph(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self.graph.answer(Base64Codec.decode_input(payload.inputs[0]))
        output = Base64Codec.encode_output("answer", answers, use_bytes=False)
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve(port: str, graph: str) -> None:
    """Serve until it is stopped."""
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=int(port),
        grpc_port=0,
        parallel_workers=0,
        metrics_endpoint=None,
        gzip_enabled=False,
        load_models_at_startup=False,
    )
    model = ModelSettings(
        name="graph",
        implementation=GraphModel,
        max_batch_size=MAX_BATCH,
        max_batch_time=BATCH_TIME_S,
        parameters=ModelParameters(uri=graph),
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    install_uvloop_event_loop()
    asyncio.run(serve(*sys.argv[1:]))
