import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def index() -> dict[str, str | None]:
    return {"colour": os.environ.get("COLOUR")}
