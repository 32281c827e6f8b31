"""The document of bench/crud.py, 480 bytes of JSON."""

from datetime import datetime

from pydantic import BaseModel


class Author(BaseModel):
    name: str
    email: str


class Article(BaseModel):
    title: str
    text: str
    author: Author
    tags: list[str] = []
    views: int = 0
    rating: float | None = None
    published: bool = False
    created: datetime
