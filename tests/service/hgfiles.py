"""Asks /compress and /decompress, and says what a refusal says."""

from httpx2 import Response
from starlette.testclient import TestClient

from service.media_types import HOURGLASS_TYPE


def compress(client: TestClient, *files: bytes, query: str = "") -> Response:
    if len(files) == 1:
        return client.post(f"/compress{query}", content=files[0])
    return client.post(f"/compress{query}", files=[("file", ("x", file)) for file in files])


def decompress(client: TestClient, content: bytes, accept: str | None = None) -> Response:
    headers = {"Content-Type": HOURGLASS_TYPE} | ({"Accept": accept} if accept else {})
    return client.post("/decompress", content=content, headers=headers)


def refused(answer: Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    detail: str = answer.json()["detail"]
    return detail
