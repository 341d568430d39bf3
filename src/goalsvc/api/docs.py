"""`/docs`: Swagger UI, from files that are served here, so that it looks right without the internet."""

from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

#: Parameter of FastAPI's Swagger page → the file of `fastapi-swagger` that it is to load.
_DOCS_ASSETS = {
    "swagger_js_url": "swagger-ui-bundle.js",
    "swagger_css_url": "swagger-ui.css",
    "swagger_favicon_url": "favicon-32x32.png",
}


def serve_docs(app: FastAPI) -> None:
    """Swagger UI at `/docs`, from files that `fastapi-swagger` brings along; where it is missing, from FastAPI's CDN."""
    offline = find_spec("fastapi_swagger") is not None
    if offline:
        app.mount("/docs/assets", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs assets")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        brought = _DOCS_ASSETS if offline else {}
        assets: dict[str, Any] = {name: f"{root}/docs/assets/{file}" for name, file in brought.items()}
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title="goalsvc",
            swagger_ui_parameters={"docExpansion": "list", "defaultModelsExpandDepth": 0, "persistAuthorization": True},
            **assets,
        )
