"""
The read side of native CRUD: filters, sorts, projections and pages, by an application and by
nginx.conf alone, compared with a small model of what MongoDB finds.

The documents are in the store before the server starts, so that some miss members and some hold
what the model no longer allows; one collection has indexes, the other none.  Each store must find
the same; MongoDB has datetimes to the millisecond.
"""

import json
import os
import random
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pymongo import MongoClient

from databridge.crud import CrudError, schema_for
from harness import DATABRIDGE, SLOWER, Nginx, until
from harness.matching import Matcher, instant, millisecond, project
from harness.settings import server_env

APP = """
from datetime import datetime
from typing import Optional
from uuid import UUID

from databridge import App, Model

app = App()


class Author(Model):
    name: Optional[str] = None
    born: Optional[int] = None


class Comment(Model):
    author: Optional[str] = None
    stars: Optional[int] = None
    labels: list[str] = []


class Plain(Model):
    title: Optional[str] = None
    views: Optional[int] = None
    rating: Optional[float] = None
    flag: Optional[bool] = None
    at: Optional[datetime] = None
    key: Optional[UUID] = None
    tags: list[str] = []
    scores: list[Optional[int]] = []
    author: Optional[Author] = None
    comments: list[Comment] = []
    extra: dict[str, int] = {}


class Indexed(Plain):
    pass


class Number(Model):
    id: int
    name: str = ""


@app.crud(Indexed)
class IndexedRoutes:
    index = ["views", "-rating,title", "author.name", "at", "flag"]
    regex = ["title", "tags", "comments.author"]


app.crud_routes(Plain, regex=["title", "tags", "comments.author"])
app.crud_routes(Number, index=["-name"])
"""

REGEX = ["--regex", "title", "--regex", "tags", "--regex", "comments.author"]
INDEX = ["views", "-rating,title", "author.name", "at", "flag"]
OPTIONS = {
    "Plain": REGEX,
    "Indexed": [*REGEX, *(word for index in INDEX for word in ("--index", index))],
    "Number": ["--index", "-name"],
}

WORDS = ["", "a", "A", "ab", "b", "Zoë", "zz top", "%_'\"", "naïve\n", "a\0", "a\0b", "a\\u0000"]
NUMBERS = [-7, -1, 0, 1, 2, 5, 9, 2**53 + 1, 2**63 - 1, -(2**63)]
REALS = [-1.5, 0.0, 1.0, 2.0, 2.5, 1e300, 9007199254740993.0]
TIMES = [
    "1969-12-31T23:59:59.999999Z",
    "2024-01-01T00:00:00Z",
    "2024-01-01T00:00:00.000001Z",
    "2024-01-01T00:00:00.500000Z",
    "2024-01-01T01:00:00+01:00",
    "2023-12-31T19:30:00-04:30",
    "2024-01-01T00:00:00",
    "2024-02-29T23:59:59.999999+14:00",
    "2024-01-01T15:00:00+15:00",
    "2024-01-01T00:00:00.000001-23:59",
]
KEYS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(4)]
FIELDS: dict[str, list[Any]] = {
    "title": WORDS,
    "views": NUMBERS,
    "rating": REALS,
    "flag": [True, False],
    "at": TIMES,
    "key": KEYS,
    "tags": WORDS,
    "scores": NUMBERS,
    "author.name": WORDS,
    "author.born": NUMBERS,
    "comments.author": WORDS,
    "comments.stars": NUMBERS,
    "comments.labels": WORDS,
}
LISTS = ["tags", "scores", "comments", "comments.labels"]
SORTABLE = ["title", "views", "rating", "flag", "at", "key", "author.name", "author.born", "id"]


def documents() -> list[dict[str, Any]]:
    """Three hundred documents in which the same values come again and again."""
    rng = random.Random(5)

    def some(values: list[Any]) -> list[Any]:
        return [rng.choice(values) for _ in range(rng.randrange(4))]

    def maybe(document: dict[str, Any], name: str, value: Any) -> None:
        choice = rng.random()
        if choice < 0.75:
            document[name] = value
        elif choice < 0.9:
            document[name] = None

    def comment() -> dict[str, Any]:
        made: dict[str, Any] = {}
        maybe(made, "author", rng.choice(WORDS))
        maybe(made, "stars", rng.choice(NUMBERS))
        if rng.random() < 0.8:
            made["labels"] = some(WORDS)
        return made

    result = []
    for _ in range(300):
        document: dict[str, Any] = {"id": f"{rng.getrandbits(96):024x}"}
        for name in ("title", "views", "rating", "flag", "at", "key"):
            maybe(document, name, rng.choice(FIELDS[name]))
        if rng.random() < 0.05:
            document["views"] = rng.choice([True, False, "5", "", 2.5])
        if rng.random() < 0.9:
            document["tags"] = some(WORDS)
            document["scores"] = some([*NUMBERS, None])
            document["comments"] = [comment() for _ in range(rng.randrange(3))]
        author: dict[str, Any] = {}
        maybe(author, "name", rng.choice(WORDS))
        maybe(author, "born", rng.choice(NUMBERS))
        maybe(document, "author", author)
        result.append(document)
    return result


DOCUMENTS = documents()


def fill(server: Nginx) -> None:
    """Both collections, in a file that no server has seen yet."""
    with sqlite3.connect(server.prefix / "test.db") as database:
        for name in ("plain", "indexed"):
            database.execute(
                f"CREATE TABLE {name} (id TEXT PRIMARY KEY NOT NULL, doc TEXT NOT NULL)"
                " WITHOUT ROWID"
            )
            database.executemany(
                f"INSERT INTO {name} VALUES (?, ?)",
                [(item["id"], json.dumps(item, ensure_ascii=False)) for item in DOCUMENTS],
            )
    database.close()


def millis(value: Any) -> Any:
    """A datetime's text as MongoDB compares it."""
    return instant(millisecond(value))


def fill_mongodb(uri: str) -> None:
    """The same as other programs write it: an ObjectId, and dates as such."""
    with MongoClient[dict[str, Any]](uri) as client:
        database = client.get_default_database()
        for name in ("plain", "indexed"):
            stored = []
            for document in DOCUMENTS:
                item = {"_id": ObjectId(document["id"]), **document}
                del item["id"]
                if "at" in item:
                    item["at"] = instant(item["at"])
                stored.append(item)
            database[name].insert_many(stored)


class Store:
    """A store that is served, and what it is to find."""

    def __init__(
        self, server: Nginx, uri: str, documents: list[dict[str, Any]], matcher: Matcher
    ) -> None:
        self.server = server
        self.client = server.client
        self.uri = uri
        self.documents = documents
        self.matcher = matcher

    def finds(self, query: Mapping[str, Any], sort: str = "") -> list[Mapping[str, Any]]:
        found = [item for item in self.documents if self.matcher.matches(item, query)]
        return self.matcher.sorted(found, sort)


def schema(model: str, server: Nginx) -> str:
    """The schema file that nginx.conf needs."""
    words = [DATABRIDGE, "schema", f"app:{model}", "--app-dir", str(server.app), *OPTIONS[model]]
    result = subprocess.run(
        words, env=server_env(), capture_output=True, text=True, timeout=30 * SLOWER
    )
    assert result.returncode == 0, result.stderr
    path = server.prefix / f"{model.lower()}.schema.json"
    path.write_text(result.stdout)
    return str(path)


@pytest.fixture(scope="module", params=["application", "nginx.conf", "mongodb"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    server = Nginx()
    server.write({"app.py": APP})
    documents, matcher = DOCUMENTS, Matcher(times=["at"])
    uri = f"sqlite:{server.prefix}/test.db"
    if request.param == "mongodb":
        uri = request.getfixturevalue("mongodb")
        fill_mongodb(uri)
        documents = [
            {**item, "at": millisecond(item["at"])} if "at" in item else item for item in DOCUMENTS
        ]
        written = "MONGODB_URI" not in os.environ
        matcher = Matcher(times=["at"], instant=millis, written=written)
        server.allow_descriptors(tcp=40)
    else:
        fill(server)
    http = f'databridge_store main "{uri}"; large_client_header_buffers 4 32k;'
    if request.param != "nginx.conf":
        server.configure("databridge_app app:app;", http=http)
    else:
        locations = [
            f"location /{model.lower()} {{ databridge_crud {model.lower()}"
            f" schema={schema(model, server)} store=main; }}"
            for model in OPTIONS
        ]
        server.configure(http=http, server="\n".join(locations))
    server.start(None)
    until("CRUD", lambda: server.client.get("/plain?limit=1").status_code == 200, 15)
    server.warm()
    yield Store(server, uri, documents, matcher)
    assert server.finish() == []


@pytest.fixture
def server(store: Store) -> Nginx:
    return store.server


@pytest.fixture
def client(store: Store) -> httpx.Client:
    return store.client


def listed(client: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    if "filter" in query:
        query["filter"] = json.dumps(query["filter"], ensure_ascii=False)
    answer = client.get(path, params=query)
    assert answer.status_code == 200, (query, answer.text)
    result: dict[str, Any] = answer.json()
    return result


def ids(items: Iterable[Mapping[str, Any]]) -> list[Any]:
    return [item["id"] for item in items]


def operators(name: str, *, nested: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """An object of operators for a field."""
    value = st.sampled_from([*FIELDS[name], None])
    compare = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
    sets = st.sampled_from(["$in", "$nin", "$all"])
    choices = [
        st.dictionaries(compare, value, min_size=1, max_size=2),
        st.dictionaries(sets, st.lists(value, max_size=5), min_size=1, max_size=2),
        st.fixed_dictionaries({"$exists": st.booleans()}),
    ]
    if name in ("title", "tags", "comments.author"):
        pattern = st.sampled_from(["^a", "a", "^.$", "[a-z]+", "Z|z", "b?"])
        flags = st.sampled_from(["", "i", "m", "is"])
        choices.append(st.fixed_dictionaries({"$regex": pattern, "$options": flags}))
    if name in LISTS:
        choices.append(st.fixed_dictionaries({"$size": st.integers(0, 3)}))
    if nested:
        choices.append(
            st.fixed_dictionaries({"$not": st.deferred(lambda: operators(name, nested=False))})
        )
        if name in ("tags", "scores"):
            inner = st.dictionaries(compare, value, min_size=1, max_size=2)
            choices.append(st.fixed_dictionaries({"$elemMatch": inner}))
    return st.one_of(choices)


def fields(names: list[str], prefix: str = "") -> st.SearchStrategy[dict[str, Any]]:
    """Conditions on some fields, which may be inside of another."""

    def condition(name: str) -> st.SearchStrategy[dict[str, Any]]:
        value = st.one_of(st.sampled_from([*FIELDS[prefix + name], None]), operators(prefix + name))
        return st.fixed_dictionaries({name: value})

    return st.one_of([condition(name) for name in names])


COMMENT = fields(["author", "stars", "labels"], "comments.")
LEAF = st.one_of(
    fields(list(FIELDS)),
    st.fixed_dictionaries({"comments": st.fixed_dictionaries({"$elemMatch": COMMENT})}),
    st.fixed_dictionaries({"comments": st.fixed_dictionaries({"$size": st.integers(0, 3)})}),
    st.fixed_dictionaries({"id": st.sampled_from(ids(DOCUMENTS))}),
    st.fixed_dictionaries(
        {"_id": st.fixed_dictionaries({"$in": st.lists(st.sampled_from(ids(DOCUMENTS)))})}
    ),
)
FILTERS = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.dictionaries(
            st.sampled_from(["$and", "$or", "$nor"]),
            st.lists(inner, min_size=1, max_size=3),
            min_size=1,
            max_size=2,
        ),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
    ),
    max_leaves=4,  # as many patterns as a filter may have
)
SORTS = st.lists(
    st.tuples(st.sampled_from(["", "-"]), st.sampled_from(SORTABLE)),
    max_size=3,
    unique_by=lambda item: item[1],
).map(
    # nothing can follow the id
    lambda keys: ",".join(
        sign + name for sign, name in sorted(keys, key=lambda key: key[1] == "id")
    )
)


def same(path: str, store: Store, query: dict[str, Any], sort: str) -> None:
    options = {"sort": sort} if sort else {}
    page = listed(store.client, path, filter=query, limit=1000, count="true", **options)
    wanted = store.finds(query, sort)
    assert ids(page["items"]) == ids(wanted), (path, query, sort)
    assert page["total"] == len(wanted)
    assert "next" not in page


@settings(max_examples=150)
@given(query=FILTERS, sort=SORTS)
def test_a_list_is_what_mongodb_finds(store: Store, query: dict[str, Any], sort: str) -> None:
    same("/plain", store, query, sort)


@settings(max_examples=150)
@given(query=FILTERS, sort=SORTS)
def test_indexes_change_nothing_of_what_is_found(
    store: Store, query: dict[str, Any], sort: str
) -> None:
    same("/indexed", store, query, sort)


@settings(max_examples=40)
@given(query=LEAF, sort=SORTS, limit=st.integers(3, 60), path=st.sampled_from(["plain", "indexed"]))
def test_pages_by_after_are_the_whole_list(
    store: Store, query: dict[str, Any], sort: str, limit: int, path: str
) -> None:
    options: dict[str, Any] = {"filter": query, "limit": limit}
    if sort:
        options["sort"] = sort
    found: list[dict[str, Any]] = []
    page = listed(store.client, f"/{path}", **options)
    found += page["items"]
    while "next" in page:
        assert len(page["items"]) == limit
        page = listed(store.client, f"/{path}", **options, after=page["next"])
        assert page["items"]
        found += page["items"]
    assert ids(found) == ids(store.finds(query, sort))


@pytest.mark.parametrize(
    ("pattern", "options", "words"),
    [
        ("e$", "", []),
        ("(?i)E$", "", []),
        ("e$|p$", "", ["zz top"]),
        ("e$", "m", ["naïve\n"]),
        ("[e$]$", "", []),
        ("e\\s$", "", ["naïve\n"]),
        ("^\\w+$", "", ["a", "A", "ab", "b", "Zoë"]),
        ("^[\\w]{3}$", "s", ["Zoë"]),
        ("\\W", "", ["zz top", "%_'\"", "naïve\n", "a\0", "a\0b", "a\\u0000"]),
        ("e[^\\v]$", "s", ["naïve\n"]),
    ],
)
def test_a_pattern_means_the_same_to_each_store(
    store: Store, pattern: str, options: str, words: list[str]
) -> None:
    query = {"title": {"$regex": pattern, "$options": options}}
    page = listed(store.client, "/plain", filter=query, limit=1000)
    assert ids(page["items"]) == ids(store.finds({"title": {"$in": words}}))


@settings(max_examples=40)
@given(
    names=st.lists(st.sampled_from([*FIELDS, "author", "comments", "id"]), min_size=1, max_size=4)
)
def test_fields_are_what_a_projection_keeps(store: Store, names: list[str]) -> None:
    page = listed(store.client, "/plain", fields=",".join(names), limit=1000)
    paths = [["id"], *(name.split(".") for name in names)]
    wanted = [project(item, paths) for item in store.finds({})]
    assert page["items"] == wanted


def test_plain_parameters_are_equalities_by_the_type(store: Store) -> None:
    for query, condition in (
        ({"views": "5"}, {"views": 5}),
        ({"flag": "true", "title": "a"}, {"flag": True, "title": "a"}),
        ({"tags": "ab"}, {"tags": "ab"}),
        ({"author.name": "Zoë"}, {"author.name": "Zoë"}),
        ({"comments.stars": "9"}, {"comments.stars": 9}),
        ({"at": "2024-01-01T00:00:00Z"}, {"at": "2024-01-01T00:00:00Z"}),
    ):
        page = listed(store.client, "/indexed", limit=1000, **query)
        wanted = store.finds(condition)
        assert wanted
        assert ids(page["items"]) == ids(wanted)


def test_paging_is_stable_while_documents_come_and_go(client: httpx.Client) -> None:
    for n in range(100, 110):
        client.post("/number", json={"id": n, "name": f"n{n}"})
    first = listed(client, "/number", sort="-name", limit=4)
    assert ids(first["items"]) == [109, 108, 107, 106]
    client.post("/number", json={"id": 500, "name": "n999"})
    client.delete("/number/106")
    client.post("/number", json={"id": 501, "name": "n1055"})
    second = listed(client, "/number", sort="-name", limit=4, after=first["next"])
    assert ids(second["items"]) == [501, 105, 104, 103]
    for n in (*range(100, 110), 500, 501):
        client.delete(f"/number/{n}")


def test_ids_that_are_ints_are_filtered_and_sorted_as_such(client: httpx.Client) -> None:
    for n in (2, 10, 1, -5):
        client.post("/number", json={"id": n})
    assert ids(listed(client, "/number")["items"]) == [-5, 1, 2, 10]
    assert ids(listed(client, "/number", sort="-id")["items"]) == [10, 2, 1, -5]
    found = listed(client, "/number", filter={"id": {"$gt": 1, "$lte": 10}})
    assert ids(found["items"]) == [2, 10]
    assert ids(listed(client, "/number", filter={"_id": {"$in": [10, 7]}})["items"]) == [10]
    for n in (2, 10, 1, -5):
        client.delete(f"/number/{n}")


NESTED: dict[str, Any] = {"views": 1}
for _ in range(8):
    NESTED = {"$and": [NESTED]}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{", "filter is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"nope": 1}', "'nope' is not a field of Plain"),
        ('{"author.nope": 1}', "'author.nope' is not a field"),
        ('{"extra.a": 1}', "'extra' has no fields"),
        ('{"$where": "1"}', "'$where' is not an operator"),
        ('{"$expr": {}}', "'$expr' is not an operator"),
        ('{"views": {"$where": 1}}', "'$where' is not an operator"),
        ('{"views": {"nope": 1}}', "'nope' is not an operator"),
        ('{"views": {}}', "'views' needs an object of operators"),
        ('{"views\\u0000": 1}', "is not a field"),
        ('{"views": "1"}', "'views' must be an int"),
        ('{"views": 1.5}', "'views' must be an int"),
        ('{"views": 9223372036854775808}', "'views' must be an int"),
        ('{"views": true}', "'views' must be an int"),
        ('{"title": 1}', "'title' must be a str"),
        ('{"flag": 1}', "'flag' must be true or false"),
        ('{"at": "soon"}', "'at' must be a datetime"),
        ('{"at": 5}', "'at' must be a datetime"),
        ('{"key": "x"}', "'key' must be a UUID"),
        ('{"id": "x"}', "'id' must be an id of 24 hex digits"),
        ('{"tags": ["a"]}', "'tags' must be a str"),
        ('{"author": "a"}', "'author' cannot be compared"),
        ('{"views": {"$in": 1}}', "$in takes a list"),
        ('{"views": {"$size": 1}}', "'views' is not a list"),
        ('{"tags": {"$size": -1}}', "$size takes an int"),
        ('{"views": {"$exists": 1}}', "$exists takes true or false"),
        ('{"views": {"$elemMatch": {"$gt": 1}}}', "'views' is not a list"),
        ('{"comments": {"$elemMatch": {"nope": 1}}}', "'comments.nope' is not a field"),
        ('{"$or": []}', "$or takes a list of at least one"),
        ('{"$and": {}}', "$and takes a list of at least one"),
        ('{"author.name": {"$regex": "a"}}', "'author.name' is not declared for $regex"),
        ('{"title": {"$regex": "("}}', "the pattern cannot be used"),
        ('{"title": {"$regex": "a", "$options": "x"}}', "$options may have i, m and s"),
        ('{"title": {"$options": "i"}}', "'$options' is not an operator"),
        (
            json.dumps({"$or": [{"title": {"$regex": "a"}}] * 5}),
            "at most 4 patterns",
        ),
        (json.dumps(NESTED), "nested more than 8 deep"),
        (json.dumps({"$or": [{"views": 1}] * 101}), "at most 100 conditions"),
        (json.dumps({"views": {"$in": [1] * 1001}}), "at most 1000 values"),
        (json.dumps({"title": "x" * 8192}), "at most 8192 bytes"),
    ],
)
def test_filters_that_are_refused_say_why(server: Nginx, query: str, message: str) -> None:
    answer = server.client.get("/plain", params={"filter": query})
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sort=nope", "'nope' is not a field"),
        ("sort=tags", "'tags' cannot be sorted by"),
        ("sort=comments.stars", "'comments.stars' cannot be sorted by"),
        ("sort=author", "'author' cannot be sorted by"),
        ("sort=views,-views", "'views' is there twice"),
        ("sort=id,views", "id must be the last"),
        ("sort=", "'' is not a field"),
        ("sort=a&sort=b", "sort is there twice"),
        ("fields=nope", "'nope' is not a field"),
        ("limit=0", "limit must be an int from 1 to 1000"),
        ("limit=1001", "limit must be an int from 1 to 1000"),
        ("skip=-1", "skip must be an int"),
        ("count=yes", "count must be true or false"),
        ("after=!", 'after must be the "next"'),
        ("after=e30", 'after must be the "next"'),
        ("after=WyIraWQiLDEsMl0", "after is of a list with another sort"),
        ("after=WyIraWQiXQ&skip=1", "skip and after exclude each other"),
        ("%24where=1", "'$where' is not a field"),
        ("views=x", "'views' must be an int"),
    ],
)
def test_options_that_are_refused_say_why(client: httpx.Client, query: str, message: str) -> None:
    answer = client.get(f"/plain?{query}")
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["detail"]


def test_after_of_another_sort_is_refused(client: httpx.Client) -> None:
    page = listed(client, "/plain", sort="-views", limit=5)
    answer = client.get("/plain", params={"sort": "views", "after": page["next"]})
    assert (answer.status_code, "another sort" in answer.text) == (400, True)


def indexes(uri: str) -> set[str]:
    if uri.startswith("sqlite:"):
        with sqlite3.connect(uri.removeprefix("sqlite:")) as database:
            rows = database.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")
            names = {str(name) for (name,) in rows}
        database.close()
        return {name for name in names if name.startswith("databridge_")}
    with MongoClient[dict[str, Any]](uri) as client:
        return {
            f"{name} {index}"
            for name in ("indexed", "number")
            for index in client.get_default_database()[name].index_information()
            if index != "_id_"
        }


def test_declared_indexes_are_in_the_database(store: Store) -> None:
    assert indexes(store.uri) == (
        {
            "databridge_indexed,views",
            "databridge_indexed,-rating,title",
            "databridge_indexed,author.name",
            "databridge_indexed,at",
            "databridge_indexed,flag",
            "databridge_number,-name",
        }
        if store.uri.startswith("sqlite:")
        else {
            "indexed views_1__id_1",
            "indexed rating_-1_title_1__id_1",
            "indexed author.name_1__id_1",
            "indexed at_1__id_1",
            "indexed flag_1__id_1",
            "number name_-1__id_-1",
        }
    )


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"index": ["nope"]}, "'nope' is not a field"),
        ({"index": ["id"]}, "the id has an index of its own"),
        ({"index": ["tags"]}, "'tags' cannot be sorted by"),
        ({"regex": ["views"]}, "'views' is not a str"),
        ({"regex": "title"}, "must be a list"),
    ],
)
def test_index_and_regex_are_checked_where_they_are_declared(
    option: dict[str, Any], word: str
) -> None:
    class Thing(BaseModel):
        title: str
        views: int
        tags: list[str]

    with pytest.raises(CrudError, match=word):
        schema_for(Thing, **option)
