from databridge import App, HTTPException, Model

app = App()


class Article(Model):
    title: str
    views: int = 0


app.crud_routes(Article, prefix="/articles")


@app.get("/hello/{name}", timeout=5)
async def hello(name: str, loud: bool = False) -> dict[str, str]:
    if name == "nobody":
        raise HTTPException(404, "Nobody is here")
    return {"hello": name.upper() if loud else name}
