"""`/docs` and `/redoc` without internet: the pages load what they need from the application.

FastAPI's own pages name a CDN.  These have the same scripts, of the package fastapi-offline,
as files of the application: under nginx it is nginx that sends them.
"""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

Endpoint = Callable[[Request], Awaitable[Response]]

SCRIPT = "swagger-ui-bundle.js"
STYLE = "swagger-ui.css"
REDOC = "redoc.standalone.js"
ICON = "favicon.png"


def offline_docs(app: FastAPI) -> None:
    """Makes FastAPI's pages of an application, those that it has, work without internet."""
    for url, endpoint in ((app.docs_url, _swagger_ui(app)), (app.redoc_url, _redoc(app))):
        if url is None or not app.openapi_url:
            continue
        for index, route in enumerate(app.router.routes):
            if isinstance(route, Route) and route.path == url and _is_fastapis(route):
                assets = Route(f"{url}/assets/{{name}}", _assets(), include_in_schema=False)
                page = Route(url, endpoint, include_in_schema=False)
                app.router.routes[index : index + 1] = [page, assets]
                break


def _is_fastapis(route: Route) -> bool:
    return getattr(route.endpoint, "__module__", None) == FastAPI.__module__


def _swagger_ui(app: FastAPI) -> Endpoint:
    async def swagger_ui_html(request: Request) -> Response:
        root = _root_path(request)
        redirect = app.swagger_ui_oauth2_redirect_url
        assets = f"{root}{app.docs_url}/assets"
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{assets}/{SCRIPT}",
            swagger_css_url=f"{assets}/{STYLE}",
            swagger_favicon_url=f"{assets}/{ICON}",
            oauth2_redirect_url=f"{root}{redirect}" if redirect else None,
            init_oauth=app.swagger_ui_init_oauth,
            swagger_ui_parameters=app.swagger_ui_parameters,
        )

    return swagger_ui_html


def _redoc(app: FastAPI) -> Endpoint:
    async def redoc_html(request: Request) -> Response:
        root = _root_path(request)
        assets = f"{root}{app.redoc_url}/assets"
        return get_redoc_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} - ReDoc",
            redoc_js_url=f"{assets}/{REDOC}",
            redoc_favicon_url=f"{assets}/{ICON}",
            with_google_fonts=False,
        )

    return redoc_html


def _assets() -> Endpoint:
    files = StaticFiles(packages=[("fastapi_offline", "static")])

    async def asset(request: Request) -> Response:
        return await files.get_response(request.path_params["name"], request.scope)

    return asset


def _root_path(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")
