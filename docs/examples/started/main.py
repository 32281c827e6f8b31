"""Recipes: native CRUD, a hook, and a route in Python."""

from databridge import App, Field, HTTPException, Model

app = App(title="Recipes")


class Recipe(Model):
    title: str = Field(min_length=1, max_length=100)
    minutes: int = Field(ge=1)
    tags: list[str] = []


@app.crud(Recipe, prefix="/recipes", index=["minutes"], version=True, timestamps=True)
class Recipes:
    async def before_create(self, item: Recipe) -> None:
        if "raw" in item.tags and item.minutes > 15:
            raise HTTPException(422, "Nothing raw takes so long")


@app.get("/portions")
async def portions(guests: int, hungry: bool = False) -> dict[str, int]:
    return {"portions": guests * (2 if hungry else 1)}
