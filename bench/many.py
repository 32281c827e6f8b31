"""A thousand routes with three hundred models: the seconds of CPU that making them takes.

Prints those of FastAPI, and those of their plans.
"""

import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from databridge import declared

ROUTES, MODELS = 1000, 300

FIELDS = {"a": int, "b": str, "c": list[str], "d": float | None}


def models() -> list[type[BaseModel]]:
    return [
        type(f"Model{number}", (BaseModel,), {"__annotations__": FIELDS})
        for number in range(MODELS)
    ]


def page(skip: int = 0, limit: int = 10) -> tuple[int, int]:
    return skip, limit


def endpoint(model: type[BaseModel]) -> Any:
    async def create(number: int, item: Any, page: Annotated[Any, Depends(page)]) -> Any: ...

    create.__annotations__ |= {"item": model, "return": model}
    return create


def main() -> None:
    begin = time.process_time()
    app = FastAPI()
    for number, model in zip(range(ROUTES), models() * (ROUTES // MODELS + 1), strict=False):
        app.post(f"/route{number}/{{number}}")(endpoint(model))

    middle = time.process_time()
    found = declared.declaration(app)
    end = time.process_time()

    assert sum(route.kind == "plan" for route in found.routes) == ROUTES, found.unplanned
    print(middle - begin, end - middle)


if __name__ == "__main__":
    main()
