"""The documentation of a service's HTTP API: its OpenAPI document, and Swagger UI to try it.

Swagger UI's files come with the package `fastapi-swagger` and are served from here, so that a
browser needs nothing from elsewhere. They are read when somebody asks for them.
"""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

# Swagger UI has its icons in `data:` addresses.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css")

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null,
});
"""


def routes(app: FastAPI) -> list[Route]:
    """``/openapi.json``, ``/docs`` and what that page loads."""

    async def openapi(_: Request) -> Response:
        return JSONResponse(app.openapi())

    async def page(_: Request) -> Response:
        html = _PAGE.format(title=escape(app.title))
        return Response(html, headers=_HEADERS, media_type="text/html")

    async def start(_: Request) -> Response:
        return Response(_START, headers=_HEADERS, media_type="text/javascript")

    async def asset(request: Request) -> Response:
        return FileResponse(_assets() / Path(request.url.path).name, headers=_HEADERS)

    return [
        Route("/openapi.json", openapi),
        Route("/docs", page),
        Route("/docs/start.js", start),
        *(Route(f"/docs/{name}", asset) for name in _ASSETS),
    ]


@cache
def _assets() -> Path:
    spec = find_spec("fastapi_swagger")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "resources"
