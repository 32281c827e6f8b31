"""Resources declared by an application, and by nginx.conf alone from their schemas."""

import json
from typing import Any

import pytest

from harness.nginx import Nginx
from harness.wait import until

KINDS = ("application", "nginx.conf")
STORES = (*KINDS, "mongodb")


def schemas(code: str) -> dict[str, dict[str, Any]]:
    """The schema of each resource that an application's code declares, by its prefix."""
    from databridge.routing import CrudRoute

    namespace: dict[str, Any] = {"__name__": "app"}
    exec(compile(code, "app.py", "exec"), namespace)  # noqa: S102
    routes = namespace["app"].routes
    return {route.prefix: route.schema for route in routes if isinstance(route, CrudRoute)}


def store_of(request: pytest.FixtureRequest) -> str:
    """The store of a fixture's kind: "" for a file of the server's own."""
    if request.param != "mongodb":
        return ""
    uri: str = request.getfixturevalue("mongodb")
    return uri


def start_crud(
    kind: str,
    code: str,
    *,
    workers: int = 1,
    location: str = "",
    http: str = "",
    server: str = "",
    store: str = "",
) -> Nginx:
    """nginx with an application's resources, with or without Python behind them.

    The kind "mongodb" is an application's whose store is that URI.
    """
    declared = schemas(code)
    nginx = Nginx()
    nginx.write({"app.py": code})
    if kind == "mongodb":
        nginx.allow_descriptors(tcp=40 * workers)
    http = f'{http}\ndatabridge_store main "{store or f"sqlite:{nginx.prefix}/test.db"}";'
    if kind != "nginx.conf":
        nginx.configure(
            f"databridge_app app:app; {location}", http=http, server=server, workers=workers
        )
    else:
        blocks = [server]
        for prefix, schema in declared.items():
            file = nginx.prefix / f"{schema['collection']}.schema.json"
            file.write_text(json.dumps(schema))
            blocks.append(
                f"location {prefix} {{ {location} databridge_crud {schema['collection']}"
                f" schema={file}; }}"
            )
        nginx.configure(http=http, server="\n".join(blocks), workers=workers)
    nginx.start(None)
    first = next(iter(declared))
    until("CRUD", lambda: nginx.client.get(first).status_code in (200, 403, 405), 15)
    nginx.warm()
    return nginx
