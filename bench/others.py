"""The rows of make bench-plans that other frameworks serve, each in its own way."""

import sys
from typing import Any


def litestar() -> Any:
    from litestar import Litestar, get

    async def constant() -> dict[str, str]:
        return {"message": "hello"}

    async def item(item_id: int, q: str | None = None, limit: int = 10) -> dict[str, Any]:
        return {"id": item_id, "q": q, "limit": limit}

    return Litestar([get("/json")(constant), get("/items/{item_id:int}")(item)])


def blacksheep() -> Any:
    from blacksheep import Application, json
    from blacksheep.messages import Response

    app = Application()

    async def constant() -> Response:
        return json({"message": "hello"})

    async def item(item_id: int, q: str | None = None, limit: int = 10) -> Response:
        return json({"id": item_id, "q": q, "limit": limit})

    app.router.get("/json")(constant)
    app.router.get("/items/{item_id}")(item)
    return app


def robyn(port: int) -> None:
    """Serves until it is killed."""
    from robyn import Request, Robyn

    app = Robyn(__file__)

    async def constant() -> dict[str, str]:
        return {"message": "hello"}

    async def item(request: Request) -> dict[str, Any]:
        query = request.query_params
        return {
            "id": int(request.path_params["item_id"] or 0),
            "q": query.get("q", None),
            "limit": int(query.get("limit", "10") or 0),
        }

    app.get("/json")(constant)
    app.get("/items/:item_id")(item)
    app.start(host="127.0.0.1", port=port)


if __name__ == "__main__":
    robyn(int(sys.argv[1]))
