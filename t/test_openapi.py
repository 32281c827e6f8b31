"""
What OpenAPI documents say of native CRUD: in an application's own document,
and in that of schema files; and that what they say is so.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastapi.openapi.utils
import hypothesis
import openapi_spec_validator
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.core.result import Ok

from databridge import App, Field, Model, openapi
from databridge.crud import schema_for
from harness import DATABRIDGE, SLOWER, Nginx
from harness.settings import server_env

APP = '''
from datetime import datetime, UTC
from typing import Optional
from uuid import UUID, uuid4

from databridge import App, Field, Model

app = App(title="Shop", version="2.0")


class Author(Model):
    name: str = Field(min_length=1)
    born: Optional[int] = None


class Article(Model):
    """An article."""

    title: str = Field(min_length=1, max_length=80, description="What it is called")
    rating: float = Field(default=0.0, ge=0, le=5)
    views: int = 0
    published: bool = False
    tags: list[str] = []
    author: Optional[Author] = None
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    count: int = 0


class Product(Model):
    id: int
    name: str


class Page(Model):
    id: UUID = Field(default_factory=uuid4)
    text: str


@app.get("/before")
async def before() -> str:
    return "before"


app.crud_routes(Article, prefix="/articles", index=["-views"])


@app.crud(Product)
class Products:
    prefix = "/products"
    operations = ("list", "get", "create")


@app.crud(Page)
class Pages:
    pass


@app.post("/words")
async def words(article: Article) -> Author:
    return article.author
'''

ALL = ("list", "get", "create", "update", "patch", "delete")


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def component(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def answer(operation: dict[str, Any], status: int) -> dict[str, Any]:
    schema: dict[str, Any] = operation["responses"][str(status)]["content"]["application/json"][
        "schema"
    ]
    return schema


def parameters(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {parameter["name"]: parameter for parameter in operation.get("parameters", ())}


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DATABRIDGE, "openapi", *arguments],
        cwd=folder,
        env=server_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40 * SLOWER,
    )


class Article(Model):
    title: str
    views: int = 0
    password: str = ""


def described(**options: Any) -> dict[str, Any]:
    """The document of a resource whose schema has these members as well."""
    schema = {**schema_for(Article, prefix="/articles"), "operations": list(ALL), **options}
    document = openapi.document([schema])
    openapi_spec_validator.validate(document)
    return document


# the application's own document


@pytest.fixture
def stored(make_nginx: Callable[[], Nginx]) -> Callable[[str], Nginx]:
    """Starts nginx with an application and a store."""

    def start(code: str) -> Nginx:
        server = make_nginx()
        server.write({"app.py": code})
        store = f"databridge_store main sqlite:{server.prefix}/test.db;"
        server.configure("databridge_app app:app;", http=store)
        server.start()
        return server

    return start


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "documented"}
    exec(APP, scope)
    found: dict[str, Any] = scope["app"].openapi()
    return found


def test_an_application_serves_a_valid_document_of_its_resources(
    stored: Callable[[str], Nginx], document: dict[str, Any]
) -> None:
    server = stored(APP)
    served = server.client.get("/openapi.json").json()
    openapi_spec_validator.validate(served)
    assert served == document
    assert server.client.get("/docs").status_code == 200


def test_operations_are_documented_where_their_resource_is_declared(
    document: dict[str, Any],
) -> None:
    assert list(document["paths"]) == [
        "/before",
        "/articles",
        "/articles/{id}",
        "/products",
        "/products/{id}",
        "/page",
        "/page/{id}",
        "/words",
    ]
    assert list(document["paths"]["/products/{id}"]) == ["get"]
    assert set(document["paths"]["/articles/{id}"]) >= {"get", "put", "delete"}


def test_operations_have_tags_summaries_and_ids_of_their_own(document: dict[str, Any]) -> None:
    found = operations(document)
    create = found["post", "/articles"]
    assert create["tags"] == ["Article"]
    assert create["summary"] == "Create Article"
    assert create["operationId"] == "create_article_articles_post"
    ids = [operation["operationId"] for operation in found.values()]
    assert len(ids) == len(set(ids))


def test_a_body_is_the_model_or_a_list_of_it(document: dict[str, Any]) -> None:
    found = operations(document)
    one, many = found["post", "/articles"]["requestBody"]["content"]["application/json"]["schema"][
        "oneOf"
    ]
    assert one == {"$ref": "#/components/schemas/Article"}
    assert many == {"type": "array", "items": one, "maxItems": 1000}
    assert found["put", "/articles/{id}"]["requestBody"]["content"]["application/json"] == {
        "schema": one
    }
    title = component(document, one)["properties"]["title"]
    assert title["description"] == "What it is called"
    assert component(document, one)["description"] == "An article."


def test_a_body_shares_its_component_with_routes_of_python(document: dict[str, Any]) -> None:
    words = operations(document)["post", "/words"]
    assert words["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Article"
    }


def test_an_answer_has_the_id_that_the_model_lacks(document: dict[str, Any]) -> None:
    schema = answer(operations(document)["get", "/articles/{id}"], 200)
    found = component(document, schema)
    assert list(found["properties"])[:2] == ["id", "title"]
    assert found["properties"]["id"]["readOnly"] is True
    assert "id" in found["required"]
    product = answer(operations(document)["get", "/products/{id}"], 200)
    assert product == {"$ref": "#/components/schemas/Product"}


def test_a_list_is_described_as_the_envelope_it_is(document: dict[str, Any]) -> None:
    page = component(document, answer(operations(document)["get", "/articles"], 200))
    assert list(page["properties"]) == ["items", "limit", "skip", "total", "next"]
    assert page["required"] == ["items", "limit", "skip"]
    whole, part = page["properties"]["items"]["items"]["anyOf"]
    assert whole == {"$ref": "#/components/schemas/ArticleDocument"}
    assert part["required"] == ["id"]


def test_a_list_has_its_options_and_its_scalars_as_parameters(document: dict[str, Any]) -> None:
    found = parameters(operations(document)["get", "/articles"])
    assert list(found) == [
        "filter",
        "sort",
        "fields",
        "limit",
        "skip",
        "after",
        "count",
        "title",
        "rating",
        "views",
        "published",
        "tags",
        "author.name",
        "author.born",
        "created",
    ]
    assert found["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "default": 20,
    }
    assert found["views"]["schema"] == {"type": "integer"}
    assert found["created"]["schema"] == {"type": "string", "format": "date-time"}
    assert "application/json" in found["filter"]["content"]


def test_an_id_is_what_the_model_declares(document: dict[str, Any]) -> None:
    found = operations(document)
    kinds = {
        "/articles/{id}": {"type": "string", "pattern": "^[0-9a-fA-F]{24}$", "title": "Id"},
        "/products/{id}": {"type": "integer", "title": "Id"},
        "/page/{id}": {"type": "string", "format": "uuid", "title": "Id"},
    }
    for path, schema in kinds.items():
        assert parameters(found["get", path])["id"]["schema"] == schema
    assert "422" not in found["get", "/articles/{id}"]["responses"]
    assert "422" in found["get", "/products/{id}"]["responses"]


def test_a_resource_may_be_left_out_of_the_document() -> None:
    app = App()
    app.crud_routes(Article, include_in_schema=False)

    class Hidden:
        include_in_schema = False
        prefix = "/hidden"

    app.crud(Article)(Hidden)
    assert app.openapi()["paths"] == {}


def test_an_application_without_a_document_still_has_its_resources(
    stored: Callable[[str], Nginx],
) -> None:
    server = stored(
        """
        from databridge import App, Model

        app = App(openapi_url=None)

        class Note(Model):
            text: str

        app.crud_routes(Note)
        """
    )
    assert server.client.get("/note").status_code == 200
    assert server.client.get("/openapi.json").status_code == 404


def test_an_application_may_make_the_document_itself() -> None:
    app = App(generate_unique_id_function=lambda route: f"{route.tags[0]}-{route.name}")
    app.crud_routes(Article)

    def custom() -> dict[str, Any]:
        made = fastapi.openapi.utils.get_openapi(title="Mine", version="3", routes=app.routes)
        app.openapi_schema = {**made, "info": {**made["info"], "x-logo": "logo.png"}}
        return app.openapi_schema

    app.openapi = custom  # type: ignore[method-assign]
    made = app.openapi()
    openapi_spec_validator.validate(made)
    assert made["info"]["title"] == "Mine"
    assert made["paths"]["/article"]["post"]["operationId"] == "Article-create_article"


def test_an_application_that_includes_another_documents_its_resources() -> None:
    inner, app = App(), App()
    inner.crud_routes(Article)
    app.include_router(inner.router, prefix="/v1", tags=["v1"])
    made = app.openapi()
    openapi_spec_validator.validate(made)
    assert set(made["paths"]) == {"/v1/article", "/v1/article/{id}"}
    assert made["paths"]["/v1/article"]["get"]["tags"] == ["v1", "Article"]


def test_two_resources_of_one_model_share_their_components() -> None:
    app = App()
    app.crud_routes(Article, prefix="/one")
    app.crud_routes(Article, prefix="/two")
    made = app.openapi()
    openapi_spec_validator.validate(made)
    first = made["paths"]["/one"]["get"]["responses"]["200"]
    assert first == made["paths"]["/two"]["get"]["responses"]["200"]


# options, in documents of schemas


def test_versions_are_documented_with_their_headers() -> None:
    found = operations(described(version=True))
    get, put = found["get", "/articles/{id}"], found["put", "/articles/{id}"]
    assert "If-None-Match" in parameters(get)
    assert "ETag" in get["responses"]["200"]["headers"]
    assert "content" not in get["responses"]["304"]
    assert parameters(put)["If-Match"]["required"] is False
    assert "412" in put["responses"] and "428" not in put["responses"]
    assert "412" in found["delete", "/articles/{id}"]["responses"]
    assert set(found["post", "/articles"]["responses"]["201"]["headers"]) == {"Location", "ETag"}


def test_a_version_that_must_be_given_is_a_required_header() -> None:
    found = operations(described(require_match=True))
    for method in ("put", "patch", "delete"):
        operation = found[method, "/articles/{id}"]
        assert parameters(operation)["If-Match"]["required"] is True
        assert "428" in operation["responses"]


def test_without_versions_nothing_is_said_of_them() -> None:
    text = json.dumps(described())
    assert "ETag" not in text and "If-Match" not in text and '"412"' not in text


def test_an_upsert_may_create() -> None:
    put = operations(described(upsert=True))["put", "/articles/{id}"]
    assert list(put["responses"])[:2] == ["200", "201"]
    assert "Location" in put["responses"]["201"]["headers"]
    assert "201" not in operations(described())["put", "/articles/{id}"]["responses"]


def test_unique_fields_scopes_and_timeouts_have_their_answers() -> None:
    plain = operations(described())
    found = operations(described(unique=["title"], scope={"title": "$remote_user"}, timeout=2.5))
    for method in ("put", "patch"):
        assert "409" not in plain[method, "/articles/{id}"]["responses"]
        assert "409" in found[method, "/articles/{id}"]["responses"]
    for key, operation in plain.items():
        assert not {"403", "504"} & set(operation["responses"])
        assert {"403", "504"} <= set(found[key]["responses"])


def test_fields_that_are_only_written_or_only_read_are_marked() -> None:
    fields = [
        {"name": "title", "type": "str", "read_only": True, "default": ""},
        {"name": "password", "type": "str", "write_only": True},
    ]
    document = described(fields=fields, timestamps={"created": "made", "updated": "changed"})
    found = operations(document)
    put = found["put", "/articles/{id}"]
    body = component(document, put["requestBody"]["content"]["application/json"]["schema"])
    assert body["properties"]["password"]["writeOnly"] is True
    assert body["properties"]["title"]["readOnly"] is True
    assert "made" not in body["properties"]
    kept = component(document, answer(put, 200))
    assert list(kept["properties"]) == ["id", "title", "made", "changed"]
    assert kept["properties"]["made"]["readOnly"] is True
    assert "password" not in parameters(found["get", "/articles"])


def test_fields_have_the_names_that_clients_give_and_those_that_answers_have() -> None:
    fields = [
        {"name": "sentAs", "type": "int", "accepts": ["readFrom", "other"]},
        {"name": "state", "type": "enum", "values": ["new", "old"], "read_only": True},
        {"name": "what", "type": "any"},
    ]
    document = described(fields=fields)
    found = operations(document)
    put = found["put", "/articles/{id}"]
    body = component(document, put["requestBody"]["content"]["application/json"]["schema"])
    assert list(body["properties"]) == ["readFrom", "state", "what"]
    kept = component(document, answer(put, 200))
    assert list(kept["properties"]) == ["id", "sentAs", "state", "what"]
    assert kept["properties"]["state"] == {
        "enum": ["new", "old"],
        "title": "State",
        "readOnly": True,
    }
    asked = parameters(found["get", "/articles"])
    assert "sentAs" in asked and "state" in asked and "what" not in asked


def test_types_that_json_lacks_are_texts() -> None:
    fields = [
        {"name": "day", "type": "date", "ge": "2020-01-01"},
        {"name": "price", "type": "decimal", "gt": "0", "max_digits": 5},
        {"name": "pair", "type": "tuple", "items": [{"type": "int"}, {"type": "str"}]},
        {
            "name": "either",
            "type": "union",
            "choices": [{"type": {"type": "bool"}}, {"type": {"type": "bytes", "max_length": 3}}],
        },
    ]
    document = described(fields=fields)
    properties = document["components"]["schemas"]["Article"]["properties"]
    assert properties["day"] == {"type": "string", "format": "date", "title": "Day"}
    assert properties["price"]["anyOf"] == [{"type": "number"}, {"type": "string"}]
    assert properties["pair"]["minItems"] == len(properties["pair"]["prefixItems"]) == 2
    assert properties["either"]["anyOf"] == [
        {"type": "boolean"},
        {"type": "string", "maxLength": 3},
    ]
    asked = parameters(operations(document)["get", "/articles"])
    assert "day" in asked and "pair" not in asked


def test_a_patch_takes_any_member_and_null() -> None:
    document = described()
    patch = operations(document)["patch", "/articles/{id}"]
    content = patch["requestBody"]["content"]
    assert set(content) == {"application/json", "application/merge-patch+json"}
    found = component(document, content["application/json"]["schema"])
    assert "required" not in found
    assert found["properties"]["title"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert "default" not in found["properties"]["views"]


def test_the_limits_of_a_list_are_those_of_the_resource() -> None:
    found = parameters(operations(described(limit=5, max_limit=50))["get", "/articles"])
    assert found["limit"]["schema"]["default"] == 5
    assert found["limit"]["schema"]["maximum"] == 50


def test_two_models_of_one_name_are_two_components() -> None:
    one = schema_for(Article, prefix="/one")
    two = {**schema_for(Article, prefix="/two"), "fields": [{"name": "other", "type": "bool"}]}
    document = openapi.document([one, two])
    openapi_spec_validator.validate(document)
    assert set(document["components"]["schemas"]) >= {"Article", "Article_2"}


# the command


@pytest.mark.parametrize("named", [["app:app"], ["app.py"], []], ids=["target", "file", "found"])
def test_the_command_prints_the_document_of_an_application(
    tmp_path: Path, document: dict[str, Any], named: list[str]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = command(*named, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == document


def test_the_command_writes_the_document_of_schema_files(tmp_path: Path) -> None:
    class Comment(Model):
        text: str = Field(pattern="^[a-z]+$")
        article: Article | None = None
        marks: dict[str, float] = {}

    for model in (Article, Comment):
        name = f"{model.__name__.lower()}.schema.json"
        (tmp_path / name).write_text(json.dumps(schema_for(model)))
    done = command(
        "article.schema.json",
        "comment.schema.json",
        "--output",
        "openapi.json",
        "--title",
        "Blog",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    document = json.loads((tmp_path / "openapi.json").read_text())
    openapi_spec_validator.validate(document)
    assert document["info"]["title"] == "Blog"
    assert list(document["paths"]) == ["/article", "/article/{id}", "/comment", "/comment/{id}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json"], "missing.json cannot be read: No such file"),
        (["bad.json"], "bad.json: "),
        (["wsgi:app"], "only databridge.App and FastAPI"),
        (["wsgi:app", "bad.json"], "of one application, MODULE:APP, or of schema files"),
        (["good.json", "good.json"], "/article is the path of two schemas"),
        (["good.json", "--output", "none/out.json"], "none/out.json cannot be written"),
    ],
)
def test_the_command_says_what_it_cannot_describe(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "wsgi.py").write_text("def app(environ, start_response): ...\n")
    (tmp_path / "bad.json").write_text('{"databridge": 1}')
    (tmp_path / "good.json").write_text(json.dumps(schema_for(Article)))
    done = command(*arguments, folder=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


# that it is so


def generated(document: dict[str, Any], url: str) -> Iterator[tuple[str, Any]]:
    """A test of each operation with requests made of what the document says."""
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @hypothesis.settings(max_examples=25)
        @hypothesis.given(case=operation.as_strategy())
        def requests(case: Any) -> None:
            case.call_and_validate(
                base_url=url,
                checks=[
                    checks.not_a_server_error,
                    checks.status_code_conformance,
                    checks.content_type_conformance,
                    checks.response_headers_conformance,
                    checks.response_schema_conformance,
                ],
            )

        yield operation.label, requests


def test_every_answer_is_one_that_the_document_has(stored: Callable[[str], Nginx]) -> None:
    server = stored(APP)
    for number in range(3):
        article = {"title": f"Title {number}", "author": {"name": "A"}}
        assert server.client.post("/articles", json=article).status_code == 201
    for label, requests in generated(server.client.get("/openapi.json").json(), server.base_url):
        if "/before" not in label and "/words" not in label:
            requests()


def test_every_answer_of_nginx_alone_is_one_that_the_document_has(
    make_nginx: Callable[[], Nginx],
) -> None:
    server = make_nginx()
    schema = schema_for(Article, prefix="/articles")
    server.write({"article.schema.json": json.dumps(schema)})
    file = server.app / "article.schema.json"
    server.configure(
        http=f"databridge_store main sqlite:{server.prefix}/test.db;",
        server=f"location /articles {{ databridge_crud article schema={file}; }}",
    )
    server.start()
    for _, requests in generated(openapi.document([schema]), server.base_url):
        requests()
