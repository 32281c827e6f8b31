"""The resource of bench/crud.py by hand, with FastAPI and Beanie."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from beanie import Document, PydanticObjectId, init_beanie
from bench.article import Article
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from pymongo import AsyncMongoClient, IndexModel


class StoredArticle(Article, Document):
    class Settings:
        name = "peer"
        indexes = [IndexModel([("published", 1), ("views", -1)])]


class Page(BaseModel):
    items: list[StoredArticle]
    limit: int
    skip: int
    total: int | None = None


@asynccontextmanager
async def connected(_: FastAPI) -> AsyncIterator[None]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(os.environ["MONGODB_URI"])
    await init_beanie(database=client.get_default_database(), document_models=[StoredArticle])
    yield
    await client.close()


app = FastAPI(lifespan=connected)


async def found(article_id: PydanticObjectId) -> StoredArticle:
    article = await StoredArticle.get(article_id)
    if article is None:
        raise HTTPException(404)
    return article


@app.get("/articles")
async def list_articles(
    published: bool, limit: int = 20, skip: int = 0, count: bool = False
) -> Page:
    articles = StoredArticle.find(StoredArticle.published == published)
    total = await articles.count() if count else None
    items = await articles.sort("-views").skip(skip).limit(limit).to_list()
    return Page(items=items, limit=limit, skip=skip, total=total)


@app.get("/articles/{article_id}")
async def get_article(article_id: PydanticObjectId) -> StoredArticle:
    return await found(article_id)


@app.post("/articles", status_code=201)
async def create_article(article: Article) -> StoredArticle:
    return await StoredArticle(**article.model_dump()).insert()


@app.put("/articles/{article_id}")
async def update_article(article_id: PydanticObjectId, article: Article) -> StoredArticle:
    return await (await found(article_id)).set(article.model_dump())


@app.delete("/articles/{article_id}", status_code=204)
async def delete_article(article_id: PydanticObjectId) -> None:
    await (await found(article_id)).delete()
