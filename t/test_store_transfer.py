"""`databridge store` between SQLite and MongoDB: what is moved stays what it is."""

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from harness import DATABRIDGE, SLOWER
from harness.settings import server_env

MODELS = """
from datetime import datetime
from uuid import UUID

from databridge import App, Model


class Event(Model):
    title: str
    at: datetime
    more: list[datetime] = []
    price: float = 0.5
    data: dict[str, int] = {}


class Count(Model):
    name: str
    id: int


class Page(Model):
    text: str = ""
    id: str


class Key(Model):
    id: UUID
    text: str = ""


app = App()
app.crud_routes(Event, prefix="/events", index=["title"], timestamps=True)
"""

Store = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Runs `databridge store`, which is to succeed unless `fails`."""
    (tmp_path / "models.py").write_text(MODELS)

    def run(
        *arguments: str, text: str = "", fails: bool = False
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [DATABRIDGE, "store", *arguments],
            cwd=tmp_path,
            env=server_env(),
            input=text,
            capture_output=True,
            text=True,
            timeout=60 * SLOWER,
        )
        assert (done.returncode != 0) == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def database(mongodb: str) -> Iterator[Database[dict[str, Any]]]:
    """The database of `mongodb`, which each test finds empty."""
    with MongoClient[dict[str, Any]](mongodb) as client:
        found = client.get_default_database()
        client.drop_database(found.name)
        yield found


def ndjson(documents: list[dict[str, Any]]) -> str:
    return "".join(
        json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"
        for document in documents
    )


def event(number: int) -> dict[str, Any]:
    """As the store of either kind answers it: to the millisecond, with six digits."""
    at = datetime(2024, 2, 29, tzinfo=UTC) + timedelta(seconds=number, milliseconds=125)
    stamp = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {
        "id": f"{number:024x}",
        "title": f"Title {number}",
        "at": stamp,
        "more": [stamp, "1969-12-31T23:59:59Z"],
        "price": number / 4,
        "data": {"a": number, "b": -(2**40)},
        "created_at": stamp,
        "updated_at": stamp,
    }


DOCUMENTS: dict[str, list[dict[str, Any]]] = {
    "Event": [event(number) for number in range(2_000)],
    "Count": [{"name": f"n{n}", "id": n} for n in (-(2**63), -1, 0, 7, 2**31, 2**63 - 1)],
    "Page": [{"text": "t", "id": name} for name in ("/", "A", "a b", "a" * 24, "ü")],
    "Key": [{"id": str(UUID(int=n << 64)), "text": "t"} for n in range(1, 9)],
}


@pytest.mark.parametrize("model", DOCUMENTS)
def test_documents_go_to_mongodb_and_back_to_the_byte(
    store: Store, mongodb: str, database: Database[dict[str, Any]], model: str
) -> None:
    text = ndjson(DOCUMENTS[model])
    schema = ("--schema", f"models:{model}")
    store("import", "sqlite:one.db", "moved", *schema, text=text)

    out = store("export", "sqlite:one.db", "moved").stdout
    assert out == text
    done = store("import", mongodb, "moved", *schema, text=out)
    assert done.stderr == f"databridge: {len(DOCUMENTS[model])} documents imported\n"
    assert database.moved.count_documents({}) == len(DOCUMENTS[model])

    back = store("export", mongodb, "moved", *schema).stdout
    assert back == text
    store("import", "sqlite:two.db", "moved", *schema, text=back)
    assert store("export", "sqlite:two.db", "moved").stdout == text


def test_an_import_makes_dates_versions_and_indexes(
    store: Store, mongodb: str, database: Database[dict[str, Any]]
) -> None:
    store("import", mongodb, "event", "--schema", "models:Event", text=ndjson([event(5)]))
    (found,) = database.event.find()
    stamp = datetime(2024, 2, 29, 0, 0, 5, 125_000)
    assert (found["_id"], found["_v"]) == (ObjectId(f"{5:024x}"), 1)
    assert (found["at"], found["more"][0], found["created_at"]) == (stamp, stamp, stamp)
    assert "title_1__id_1" in database.event.index_information()


def test_a_list_tells_collections_their_ids_and_numbers(
    store: Store, mongodb: str, database: Database[dict[str, Any]]
) -> None:
    for model, documents in DOCUMENTS.items():
        schema = ("--schema", f"models:{model}")
        store("import", mongodb, model.lower(), *schema, text=ndjson(documents))
    database.mixed.insert_many([{"_id": 1}, {"_id": "text"}])
    database.strange.insert_one({"_id": {"a": 1}})
    assert [line.split() for line in store("list", mongodb).stdout.splitlines()] == [
        ["count", "int", "6"],
        ["event", "objectid", "2,000"],
        ["key", "str", "8"],
        ["page", "str", "5"],
    ]


def test_an_export_without_a_schema_has_the_id_first(
    store: Store, mongodb: str, database: Database[dict[str, Any]]
) -> None:
    at = datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)
    database.theirs.insert_many([{"_id": n, "at": at, "n": [n, None]} for n in range(600)])
    lines = store("export", mongodb, "theirs").stdout.splitlines()
    assert lines == [f'{{"id":{n},"at":"2024-02-29T01:02:03Z","n":[{n},null]}}' for n in range(600)]


def test_conflicts_fail_are_skipped_or_replace(
    store: Store, mongodb: str, database: Database[dict[str, Any]]
) -> None:
    into = ("import", mongodb, "count", "--schema", "models:Count")
    store(*into, text=ndjson([{"name": "old", "id": 2}]))
    text = ndjson([{"name": f"new {n}", "id": n} for n in (1, 2, 3, 3)])

    done = store(*into, text=text, fails=True)
    assert "line 2: its id, or what has to be unique, is taken" in done.stderr
    assert "nothing was stored" in done.stderr
    assert [found["_id"] for found in database["count"].find()] == [2]

    done = store(*into, "--on-conflict=skip", text=text)
    assert done.stderr == "databridge: 2 documents imported, 2 skipped\n"
    assert database["count"].find_one({"_id": 2}) == {"_id": 2, "name": "old", "_v": 1}

    done = store(*into, "--on-conflict=replace", text=text)
    assert done.stderr == "databridge: 4 documents imported\n"
    assert database["count"].find_one({"_id": 2}) == {"_id": 2, "name": "new 2", "_v": 2}


def test_what_is_wrong_is_said_without_the_password(store: Store, mongodb: str) -> None:
    done = store("import", mongodb, "none", fails=True)
    assert "needs --schema" in done.stderr
    done = store("export", mongodb, "none", fails=True)
    assert "has no collection 'none'" in done.stderr

    away = "mongodb://me:secret@127.0.0.1:1/tests?serverSelectionTimeoutMS=200"
    for arguments in (
        ("list", away),
        ("export", away, "count"),
        ("import", away, "count", "--schema", "models:Count"),
    ):
        done = store(*arguments, text=ndjson([{"name": "n", "id": 1}]), fails=True)
        assert "127.0.0.1:1/tests" in done.stderr
        assert "secret" not in done.stderr
