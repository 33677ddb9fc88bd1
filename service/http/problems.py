"""Problems as responses: RFC 9457 documents, or the errors of the Open Inference Protocol."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import PROBLEM_JSON, RequestError, printable, problem_bytes
from service.media_types import JSON_TYPE

PROBLEM = "hourglass.problem"  # where a request's scope holds the code of its problem


class ProblemResponse(Response):
    """An error as `application/problem+json`; below /v2 in the form that its protocol has.

    `observing.py` finds its code in the scope.
    """

    def __init__(self, error: RequestError) -> None:
        # Not the error itself: it holds the frames it came through, and they the pictures of the request.
        self._problem, self._code, self._detail = error.problem(), error.code, error.detail
        super().__init__(
            problem_bytes(self._problem), status_code=error.status, headers=error.headers, media_type=PROBLEM_JSON
        )
        self._own_headers = error.headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PROBLEM] = self._code
        if root := scope.get("root_path"):  # mounted below a path: `type` is an address, too
            self.body = problem_bytes({**self._problem, "type": f"{root}{self._problem['type']}"})
            self.headers["Content-Length"] = str(len(self.body))
        if not is_v2(scope["path"]):
            return await super().__call__(scope, receive, send)
        content = problem_bytes({"error": printable(self._detail)})
        response = Response(content, self.status_code, self._own_headers, JSON_TYPE)
        return await response(scope, receive, send)


def problem_response(error: RequestError) -> Response:
    """Return the response for an error."""
    return ProblemResponse(error)


def is_v2(path: str) -> bool:
    """Return whether an address belongs to the Open Inference Protocol, whose errors are `{"error": "..."}`."""
    return path == "/v2" or path.startswith("/v2/")
