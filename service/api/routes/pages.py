"""The API page, with everything it loads coming from here: it works with no internet."""

import difflib
import hashlib
import re
from base64 import b64encode
from functools import cache
from importlib import resources
from inspect import cleandoc

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import PlainTextResponse

from service.api.service import service_of
from service.errors import PROBLEMS, RouteNotFound, shown
from service.http.encoding import write_json
from service.http.etag import conditional
from service.media_types import JSON_TYPE

router = APIRouter(include_in_schema=False)

_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
# Swagger UI writes styles into its elements, and draws with images out of its style sheet.
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_TYPE_BY_ASSET = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Swagger UI. All addresses are relative, so that it works below a path prefix too."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{request.app.title}: API",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True, "defaultModelsExpandDepth": 0},
    )
    scripts = [hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(bytes(page.body))]
    hashes = " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in scripts)
    page.headers["Content-Security-Policy"] = _POLICY.format(scripts=f"'self' {hashes}")
    page.headers["X-Content-Type-Options"] = "nosniff"
    return page


@router.get("/docs/{asset}")
async def docs_asset(request: Request, asset: str) -> Response:
    """The files of Swagger UI, out of the package that carries them."""
    if asset not in _TYPE_BY_ASSET:
        raise RouteNotFound(f"no page '/docs/{shown(asset)[1:-1]}'")
    headers, content = {"Cache-Control": "max-age=86400"}, _read_asset(asset)
    page = service_of(request).pages.get(f"/docs/{asset}", content, lambda: content)
    response = Response(page.content, media_type=_TYPE_BY_ASSET[asset], headers=headers)
    return conditional(request, response, tag=page.tag)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The description of the API."""
    document = request.app.openapi()
    page = service_of(request).pages.get("/openapi.json", document, lambda: write_json(document))
    return conditional(request, Response(page.content, media_type=JSON_TYPE), tag=page.tag)


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
