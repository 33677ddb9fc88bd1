"""The API page, which loads nothing from other sites."""

import difflib
from functools import cache
from importlib import resources
from inspect import cleandoc

from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse

from service.api.docs_page import document_for_people
from service.api.help_files import help_files
from service.api.routes import v2
from service.api.service import service_of
from service.api.static_files import static_files
from service.errors import PROBLEMS, RouteNotFound, shown
from service.http.encoding import write_json
from service.http.etag import conditional
from service.http.sent import header
from service.media_types import JSON_TYPE

router = APIRouter(include_in_schema=False)

_TYPE_BY_ASSET = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
# Swagger UI sets styles in its markup and has its pictures in its styles; scripts come from here only.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Answer with Swagger UI. All addresses are relative, so that it works below a path prefix too."""
    return conditional(request, Response(static_files()["docs/docs.html"], media_type="text/html", headers=_HEADERS))


@router.get("/docs/openapi.json")
async def docs_openapi(request: Request) -> Response:
    """Return the OpenAPI document for the API page, with live models and sample pictures."""
    snapshot = service_of(request).registry.snapshot
    page = await service_of(request).pages.get_slow(
        "/docs/openapi.json",
        snapshot,
        lambda: write_json(document_for_people(request.app.openapi(), snapshot, v2.router.routes)),
    )
    return conditional(request, Response(page.content, media_type=JSON_TYPE), tag=page.tag)


@router.get("/docs/{asset}")
async def docs_asset(request: Request, asset: str) -> Response:
    """Return a file of Swagger UI from its package."""
    if asset not in _TYPE_BY_ASSET:
        raise RouteNotFound(f"no page '/docs/{shown(asset)[1:-1]}'")
    headers, content = {"Cache-Control": "max-age=86400"}, _read_asset(asset)
    page = service_of(request).pages.get(f"/docs/{asset}", content, lambda: content)
    response = Response(page.content, media_type=_TYPE_BY_ASSET[asset], headers=headers)
    return conditional(request, response, tag=page.tag)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    app = request.app
    page = await service_of(request).pages.get_slow("/openapi.json", app, lambda: write_json(app.openapi()))
    return conditional(request, Response(page.content, media_type=JSON_TYPE), tag=page.tag)


@router.get("/problems/{code}")
async def explain_problem(request: Request, code: str) -> Response:
    """Explain a problem: redirect browsers to the help pages, answer others in plain text."""
    error = PROBLEMS.get(code)
    if error is None:
        near = difflib.get_close_matches(code[:64], PROBLEMS, n=3, cutoff=0.0)  # all of them would fill a screen
        raise RouteNotFound(f"no problem {shown(code)}; similar ones: {', '.join(near)}. See /help/errors.html")
    if help_files() and "text/html" in (header(request.scope, b"accept") or ""):
        return Response(status_code=307, headers={"Location": f"../help/errors.html#{code}", "Vary": "Accept"})
    page = PlainTextResponse(
        f"{error.title} ({error.status} {code})\n\n{cleandoc(error.__doc__ or '')}\n\nFor example: {error.example}\n",
        headers={"Vary": "Accept"},
    )
    return conditional(request, page)


@cache
def _read_asset(name: str) -> bytes:
    # Through the package's path and not by importing it: its __init__ loads code that patches FastAPI.
    package = resources.files("fastapi_swagger")
    return package.joinpath("resources", name).read_bytes()
