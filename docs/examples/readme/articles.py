from databridge import App, Model

app = App()


class Author(Model):
    name: str


class Article(Model):
    title: str
    slug: str
    views: int = 0
    tags: list[str] = []
    author: Author | None = None


@app.crud(Article, prefix="/articles")
class Articles:
    operations = ["list", "get", "create", "update", "patch", "delete"]
    version = True
    unique = ["slug"]
    index = ["-views,title"]
