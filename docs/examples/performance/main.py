import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/items/{item_id}")
async def item(item_id: int) -> dict[str, int]:
    return {"item_id": item_id}


@app.get("/report")
def report() -> dict[str, str]:
    time.sleep(0.05)  # a library that blocks: in a thread, beside the loop
    return {"report": "done"}
