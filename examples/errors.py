"""Errors: what the client gets, and what only the log has.

databridge run errors:app --app-dir examples
"""

from databridge import (
    App,
    DatabaseError,
    HTTPException,
    JSONResponse,
    Request,
    RequestValidationError,
)

app = App(title="Errors")


class OutOfStock(Exception):
    def __init__(self, item: str) -> None:
        self.item = item


@app.exception_handler(OutOfStock)
async def out_of_stock(request: Request, exc: OutOfStock) -> JSONResponse:
    return JSONResponse({"detail": f"{exc.item} is out of stock"}, status_code=409)


@app.exception_handler(RequestValidationError)
async def invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
    fields = [".".join(map(str, error["loc"])) for error in exc.errors()]
    return JSONResponse({"detail": "invalid", "fields": fields}, status_code=422)


@app.get("/items/{item}")
async def item(item: str, amount: int = 1) -> dict[str, str | int]:
    if item == "unicorn":
        raise HTTPException(404, "There are no unicorns", headers={"X-Reason": "myth"})
    if amount > 10:
        raise OutOfStock(item)
    return {"item": item, "amount": amount}


@app.get("/database")
async def database() -> None:
    """The client gets 503 and Retry-After; the text is in the error log alone."""
    raise DatabaseError("connection to db-7.internal refused")


@app.get("/crash")
async def crash() -> None:
    """The client gets 500 and X-Request-ID; the log has the traceback under that id."""
    raise RuntimeError("a secret that no client may see")
