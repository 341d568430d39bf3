"""`/docs` to try calls (Swagger UI), `/docs/reading` to read them (ReDoc), `/docs/events` to read messages (AsyncAPI).

All that the pages load comes from here: they look right without the internet, and no other server learns who reads them.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from goalsvc.api.asyncapi import asyncapi_document
from goalsvc.api.docs.messages import reading_of

if TYPE_CHECKING:
    from jinja2 import Environment

router = APIRouter(include_in_schema=False)

#: ReDoc and Swagger UI style their own elements; ReDoc searches in a worker of its own.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "worker-src blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
#: ReDoc loads its maker's logo from its maker's server; a logo that is missing is left out.
_MAKERS_MARK: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"


def serve_docs(app: FastAPI) -> None:
    """Adds the pages, and the files that they load: our own, and those that `fastapi-offline` brings along."""
    app.include_router(router)
    app.mount("/docs/own", StaticFiles(packages=[("goalsvc.api.docs", "static")]), name="docs own")
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs assets")


@router.get("/docs")
async def try_calls(request: Request) -> HTMLResponse:
    """Swagger UI."""
    return _page(request, "/docs", "swagger.html")


@router.get("/docs/reading")
async def read_calls(request: Request) -> HTMLResponse:
    """ReDoc."""
    return _page(request, "/docs/reading", "redoc.html")


@router.get("/docs/events")
async def read_messages(request: Request) -> HTMLResponse:
    """What the AsyncAPI document says, without any script."""
    return _page(request, "/docs/events", "asyncapi.html", reading=reading_of(asyncapi_document()))


@router.get("/docs/redoc.js")
async def redoc_script() -> Response:
    """ReDoc, without its one call to another server."""
    return Response(_redoc(), media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})


@cache
def _redoc() -> bytes:
    return (files("fastapi_offline") / "static/redoc.standalone.js").read_bytes().replace(_MAKERS_MARK, b"data:,")


def _page(request: Request, path: str, template: str, **values: object) -> HTMLResponse:
    base = request.scope.get("root_path", "").rstrip("/")
    html = _templates().get_template(template).render(base=base, here=path, **values)
    return HTMLResponse(html, headers=dict(_HEADERS))


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # the API starts without it

    return Environment(
        loader=PackageLoader("goalsvc.api.docs"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
