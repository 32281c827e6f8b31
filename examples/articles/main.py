"""Articles: native CRUD beside Python routes.

    databridge run main:app --app-dir examples/articles

nginx answers /articles and /articles/{id} from the embedded store, without Python.
The two routes below it are FastAPI's.
"""

from datetime import UTC, datetime

from databridge import App, Field, HTTPException, Model

app = App(title="Articles")


class Article(Model):
    title: str = Field(min_length=1, max_length=200)
    text: str = ""
    tags: list[str] = Field(default_factory=list, max_length=20)
    published: bool = False
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Statistics(Model):
    words: int
    characters: int
    minutes: float


app.crud_routes(Article, prefix="/articles")


@app.get("/")
async def index() -> dict[str, str]:
    return {"articles": "/articles", "documentation": "/docs"}


@app.post("/statistics", timeout=5)
async def statistics(article: Article, words_per_minute: int = 200) -> Statistics:
    if words_per_minute < 1:
        raise HTTPException(400, "Nobody reads that slowly")
    words = len(article.text.split())
    return Statistics(
        words=words,
        characters=len(article.text),
        minutes=round(words / words_per_minute, 2),
    )
