"""The API page, with everything it loads coming from here: it works with no internet."""

import difflib
from functools import cache
from importlib import resources
from inspect import cleandoc

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import PlainTextResponse

from service.api.responses import json_response
from service.errors import PROBLEMS, RouteNotFound, shown
from service.http.etag import conditional

router = APIRouter(include_in_schema=False)

_TYPE_BY_ASSET = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Swagger UI. All addresses are relative, so that it works below a path prefix too."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{request.app.title}: API",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True, "defaultModelsExpandDepth": 0},
    )


@router.get("/docs/{asset}")
async def docs_asset(request: Request, asset: str) -> Response:
    """The files of Swagger UI, out of the package that carries them."""
    if asset not in _TYPE_BY_ASSET:
        raise RouteNotFound(f"no page '/docs/{shown(asset)[1:-1]}'")
    headers = {"Cache-Control": "max-age=86400"}
    return conditional(request, Response(_read_asset(asset), media_type=_TYPE_BY_ASSET[asset], headers=headers))


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The description of the API."""
    return conditional(request, json_response(request.app.openapi()))


@router.get("/problems/{code}")
async def explain_problem(request: Request, code: str) -> Response:
    """What the `type` of a problem points to."""
    error = PROBLEMS.get(code)
    if error is None:
        near = difflib.get_close_matches(code[:64], PROBLEMS, n=3, cutoff=0.0)  # all of them would fill a screen
        raise RouteNotFound(f"no problem {shown(code)}; near it are {', '.join(near)}, and docs/errors.md has all")
    page = PlainTextResponse(
        f"{error.title} ({error.status} {code})\n\n{cleandoc(error.__doc__ or '')}\n\nFor example: {error.example}\n"
    )
    return conditional(request, page)


@cache
def _read_asset(name: str) -> bytes:
    # Through the package's path and not by importing it: its __init__ loads code that patches FastAPI.
    package = resources.files("fastapi_swagger")
    return package.joinpath("resources", name).read_bytes()
