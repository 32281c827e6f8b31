from databridge import App, Depends, Header, HTTPException, Model, Request

app = App()


class Article(Model):
    title: str
    slug: str = ""


def editor(x_editor: str = Header()) -> str:
    return x_editor


@app.crud(Article, prefix="/articles")
class Articles:
    def before_create(self, item: Article) -> None:
        if item.title == "spam":
            raise HTTPException(403, "no")
        item.slug = item.title.lower()

    async def after_create(
        self, item: Article, id: str, request: Request, by: str = Depends(editor)
    ) -> None:
        print(by, "has created", id)

    def before_delete(self, id: str) -> None:
        print(id, "is about to go")
