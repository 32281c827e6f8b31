"""The FastAPI application that make bench-plans serves: one route a row of its table.

It knows nothing of databridge, and is served unchanged by all.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


class Record(BaseModel):
    id: int
    name: str
    active: bool
    score: float


class Session:
    """As much of a database's session as its dependency uses."""

    def __init__(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False


def records(count: int) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": f"record number {number}", "active": True, "score": number / 4}
        for number in range(count)
    ]


RECORDS = {count: records(count) for count in (130, 1300, 13000)}

app = FastAPI()


@app.get("/constant")
async def constant() -> dict[str, str]:
    return {"message": "hello"}


@app.get("/json", response_model=None)
async def plain_json() -> dict[str, str]:
    return {"message": "hello"}


@app.get("/items/{item_id}", response_model=None)
async def item(item_id: int, q: str | None = None, limit: int = 10) -> dict[str, Any]:
    return {"id": item_id, "q": q, "limit": limit}


@app.post("/echo", response_model=None)
async def echo(item: Item) -> Item:
    return item


async def user(authorization: Annotated[str, Header()]) -> str:
    return authorization


async def page(user: Annotated[str, Depends(user)], skip: int = 0) -> tuple[str, int]:
    return user, skip


@app.get("/dependencies", response_model=None)
async def dependencies(
    page: Annotated[tuple[str, int], Depends(page)], user: Annotated[str, Depends(user)]
) -> dict[str, Any]:
    return {"user": user, "page": page}


@app.get("/threaded", response_model=None)
def threaded() -> dict[str, str]:
    return {"message": "hello"}


@app.get("/text")
async def text() -> PlainTextResponse:
    return PlainTextResponse("hello")


@app.get("/records/{count}", response_model=None)
async def read_records(count: int) -> list[dict[str, Any]]:
    return RECORDS[count]


@app.get("/models/{count}")
async def read_models(count: int) -> list[Record]:
    return RECORDS[count]  # type: ignore[return-value]


def session() -> Iterator[Session]:
    session = Session()
    try:
        yield session
    finally:
        session.close()


@app.get("/session", response_model=None)
def use_session(session: Annotated[Session, Depends(session)]) -> dict[str, bool]:
    return {"open": session.open}


@app.get("/missing", response_model=None)
async def missing() -> None:
    raise HTTPException(404, "no such thing")


guarded = FastAPI()
guarded.add_middleware(CORSMiddleware, allow_origins=["https://example.com"])


@guarded.get("/constant", response_model=None)
async def guarded_constant() -> dict[str, str]:
    return {"message": "hello"}


compressed = FastAPI()
compressed.add_middleware(GZipMiddleware)
compressed.get("/constant", response_model=None)(guarded_constant)
compressed.get("/items/{item_id}", response_model=None)(item)
