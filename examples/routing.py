"""Decorator routing: typed path and query parameters, bodies, routers, timeouts.

databridge run routing:app --app-dir examples
"""

import asyncio
from typing import Annotated

from databridge import APIRouter, App, Model, Path, Query, Response

app = App(title="Routing")
items = APIRouter(prefix="/items", tags=["items"])


class Item(Model):
    name: str
    price: float
    tags: list[str] = []


@app.get("/")
async def root() -> dict[str, str]:
    return {"hello": "world"}


@items.get("/{item_id}")
async def read(
    item_id: Annotated[int, Path(ge=1)],
    q: str | None = None,
    limit: Annotated[int, Query(le=100)] = 10,
) -> dict[str, int | str | None]:
    return {"item_id": item_id, "q": q, "limit": limit}


@items.post("", status_code=201)
async def create(item: Item, response: Response) -> Item:
    response.headers["Location"] = "/items/1"
    return item


@items.put("/{item_id}")
def replace(item_id: int, item: Item) -> dict[str, int | Item]:
    """A plain function runs in a thread: it may block."""
    return {"item_id": item_id, "item": item}


@items.patch("/{item_id}")
async def rename(item_id: int, name: str) -> dict[str, int | str]:
    return {"item_id": item_id, "name": name}


@items.delete("/{item_id}", status_code=204)
async def delete(item_id: int) -> None:
    return None


@app.get("/files/{path:path}")
async def file(path: str) -> dict[str, str]:
    return {"path": path}


@app.get("/wait/{seconds}", timeout=2)
async def wait(seconds: float) -> dict[str, float]:
    """After two seconds the client gets a 504 and this coroutine is cancelled."""
    await asyncio.sleep(seconds)
    return {"waited": seconds}


app.include_router(items)
