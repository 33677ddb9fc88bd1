"""Ray Serve in front of an application without work: it reads the body and sends it back. `python rayserve.py PORT`."""

import sys
import time

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(max_ongoing_requests=1000)
class Echo:
    """Answers with what was sent."""

    async def __call__(self, request: Request) -> Response:
        """Return the body."""
        return Response(await request.body(), media_type="image/png")


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Echo.bind())  # type: ignore[attr-defined]  # given by the decorator, whose types are unknown here
while True:
    time.sleep(60)
