import os

from databridge import App, Model, Request

app = App()


class Article(Model):
    title: str
    views: int = 0


@app.get("/colour")
async def colour() -> dict[str, str | None]:
    return {"colour": os.environ.get("COLOUR")}


@app.get("/admin/me")
async def me(request: Request) -> dict[str, str]:
    return {"user": request.scope["extensions"]["databridge"]["remote_user"]}
