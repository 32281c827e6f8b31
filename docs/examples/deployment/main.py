import os

from databridge import App, Model

app = App()
app.native("/health", json={"status": "ok"})


class Note(Model):
    text: str


app.crud_routes(Note, prefix="/notes")


@app.get("/worker")
async def worker() -> int:
    return os.getpid()
