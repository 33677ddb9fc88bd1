"""The help pages at `/help`. All their addresses are relative, so that they work below a path prefix too."""

from fastapi import APIRouter, Request, Response

from service.api.help_files import content_security_policy, help_files, media_type_of, not_found_page, read_help
from service.api.service import service_of
from service.errors import RouteNotFound, shown
from service.http.etag import conditional

router = APIRouter(include_in_schema=False)

_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


@router.get("/help")
async def help_start(request: Request) -> Response:
    """Redirect to the first page."""
    _check_built()
    return Response(status_code=307, headers={"Location": "help/"})


@router.get("/help/{file:path}")
async def help_page(request: Request, file: str) -> Response:
    """Answer with one file of the help pages, or with a page that says there is none."""
    _check_built()
    name = f"{file}index.html" if not file or file.endswith("/") else file
    if name not in help_files():
        missing = not_found_page(depth=request.scope["raw_path"].count(b"/") - 2)
        headers = _HEADERS | {"Content-Security-Policy": content_security_policy(missing)}
        return Response(missing, 404, headers, "text/html")
    page = service_of(request).pages.get(f"/help/{name}", help_files(), lambda: read_help(name))
    headers = _HEADERS | (
        {"Content-Security-Policy": content_security_policy(page.content)} if name.endswith(".html") else {}
    )
    response = Response(page.content, media_type=media_type_of(name), headers=headers)
    return conditional(request, response, tag=page.tag)


def _check_built() -> None:
    if not help_files():
        raise RouteNotFound(
            f"no page {shown('/help')}: this checkout has not built its help pages; run `make docs` and start again"
        )
