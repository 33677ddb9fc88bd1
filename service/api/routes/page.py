"""The page at `/`, where people use the models. Its files are served as they are in `static/`."""

from functools import cache

from fastapi import APIRouter, Request, Response

from service.api.static_files import TYPE_BY_ENDING, static_files
from service.errors import RouteNotFound, shown
from service.http.content_coding import choose, encode
from service.http.etag import conditional
from service.http.sent import header

router = APIRouter(include_in_schema=False)

# Nothing from elsewhere, nothing inline, nothing framed: were a model's name ever taken for markup, it could not run.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, but asked for again: it is small, and has an ETag
}


@router.get("/")
async def page(request: Request) -> Response:
    """Return the page. All its addresses are relative, so that it works below a path prefix too."""
    return _answer(request, "index.html")


@router.get("/page/{file:path}")
async def page_file(request: Request, file: str) -> Response:
    """Answer one file that the page loads."""
    if file not in static_files():
        raise RouteNotFound(f"no page '/page/{shown(file)[1:-1]}'")
    return _answer(request, file)


def _answer(request: Request, file: str) -> Response:
    media_type = TYPE_BY_ENDING[file.rpartition(".")[2]]
    content, coding = _coded(file, choose(header(request.scope, b"accept-encoding") or ""))
    headers = {**_HEADERS, "Vary": "Accept-Encoding"} | ({"Content-Encoding": coding} if coding else {})
    return conditional(request, Response(content, media_type=media_type, headers=headers))


@cache
def _coded(file: str, coding: str | None) -> tuple[bytes, str | None]:
    """Return the content of a file, compressed if it is text and the browser accepts that, and its coding."""
    return encode(static_files()[file], None if file.endswith((".png", ".jpg")) else coding)
