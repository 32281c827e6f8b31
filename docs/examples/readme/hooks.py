from databridge import App, Model, Request

app = App()


class Article(Model):
    title: str


@app.crud(Article, prefix="/articles")
class Articles:
    def before_create(self, item: Article) -> None:  # or async
        item.title = item.title.strip()  # or raises HTTPException

    async def after_delete(self, id: str, request: Request) -> None: ...
