"""`App`: FastAPI with native CRUD, timeouts and a server of its own."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Unpack

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from databridge import _crud
from databridge.crud import OPTIONS, CrudError, CrudOptions
from databridge.errors import DatabaseError, InternalErrorMiddleware, database_error_handler
from databridge.hybrid import METHODS, hooks_of, is_hook
from databridge.operations import documented
from databridge.pages import offline_docs
from databridge.routing import CrudRoute, Decorators, HybridRoute, NativeRoute

Declaration = TypeVar("Declaration", bound=type)


class App(Decorators, FastAPI):
    """A FastAPI application that nginx serves."""

    def setup(self) -> None:
        super().setup()
        offline_docs(self)
        self.exception_handlers.setdefault(DatabaseError, database_error_handler)

    def _add_route(
        self, path: str, endpoint: Callable[..., Any], options: dict[str, Any]
    ) -> BaseRoute:
        self.router.add_api_route(path, endpoint, **options)
        return self.router.routes[-1]

    def build_middleware_stack(self) -> ASGIApp:
        stack = super().build_middleware_stack()
        handled = Exception in self.exception_handlers or 500 in self.exception_handlers
        if self.debug or handled or not isinstance(stack, ServerErrorMiddleware):
            return stack
        return InternalErrorMiddleware(stack.app)

    def crud(
        self, model: type[BaseModel], **options: Unpack[CrudOptions]
    ) -> Callable[[Declaration], Declaration]:
        """Declares native CRUD for a model; the class it decorates may set the options."""

        def decorator(declaration: Declaration) -> Declaration:
            if not isinstance(declaration, type):
                raise CrudError(
                    f"@app.crud({model.__name__}) decorates a class, not"
                    f" {declaration!r}; without one use app.crud_routes({model.__name__})"
                )
            declared = _options_of(declaration)
            declared |= {name: value for name, value in options.items() if value is not None}
            self._add_crud(CrudRoute(model, hooks_of(declaration), **declared))
            return declaration

        return decorator

    def crud_routes(self, model: type[BaseModel], **options: Unpack[CrudOptions]) -> None:
        """Declares native CRUD for a model, at this place among the routes."""
        self._add_crud(CrudRoute(model, **options))

    def _add_crud(self, route: CrudRoute) -> None:
        for other in self.router.routes:
            if isinstance(other, CrudRoute) and other.prefix == route.prefix:
                raise CrudError(
                    f"{route.name}: {route.prefix} is already the CRUD prefix of {other.name};"
                    " choose another with prefix="
                )
        for operation, path in route.hybrid_paths():
            self.router.add_api_route(
                path,
                route.hybrid.endpoint(operation),
                methods=[METHODS[operation]],
                name=f"{route.name}.{operation}",
                include_in_schema=False,
                max_body_size=_crud.MAX_DOCUMENT,
                route_class_override=HybridRoute,
            )
        self.router.routes.append(route)
        if route.include_in_schema:
            unique_id = self.router.generate_unique_id_function
            self.router.routes.extend(documented(route.model, route.schema, unique_id))

    def native(
        self,
        path: str,
        *,
        json: Any,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Declares a constant answer to GET and HEAD, which nginx gives without Python."""
        self.router.routes.append(NativeRoute(path, JSONResponse(json, status, headers)))

    def run(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        workers: int = 1,
        store: str = "sqlite:./databridge.db",
        timeout: float | None = None,
        quiet: bool = False,
    ) -> None:
        """Serves the application, a global of the program's main file, until told to stop.

        The arguments are `databridge run`'s; `timeout` is in seconds until a response has to
        start, 0 for none and None for the 60 of `databridge_timeout`.
        """
        from databridge.server import serve

        serve(
            self,
            host=host,
            port=port,
            workers=workers,
            store=store,
            timeout=timeout,
            quiet=quiet,
        )

    serve = run


def _options_of(declaration: type) -> dict[str, Any]:
    """The options a class declares for `App.crud`."""
    declared = {
        name: value
        for name, value in vars(declaration).items()
        if not name.startswith("__") and not is_hook(name)
    }
    for name in declared:
        if name not in OPTIONS:
            raise CrudError(
                f"{declaration.__name__}.{name} is neither an option nor a hook; a CRUD class"
                f" may set {', '.join(OPTIONS)}, and have methods before_ and after_"
                f" {', '.join(METHODS)}"
            )
    return declared
