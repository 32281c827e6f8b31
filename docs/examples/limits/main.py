import asyncio

from databridge import App, Request

app = App()


@app.post("/count")
async def count(request: Request) -> int:
    return len(await request.body())


@app.get("/wait/{seconds}", timeout=1)
async def wait(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "waited"


@app.get("/search")
async def search() -> str:
    return "found"
