"""A straightforward first endpoint: `python -m benchmarks.peers.naive PORT GRAPH`.

A plain `def` route, an upload, Pillow at both ends and one inference per request; uvicorn with uvloop and httptools.
"""

import sys

import uvicorn
from fastapi import FastAPI, Response, UploadFile

from benchmarks.peers.graph import Graph


def main(port: str, path: str) -> None:
    """Serve until it is stopped."""
    app, graph = FastAPI(), Graph(path)

    @app.post("/predict")
    def answer(file: UploadFile) -> Response:
        return Response(graph.answer([file.file.read()])[0], media_type=graph.media_type)

    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
