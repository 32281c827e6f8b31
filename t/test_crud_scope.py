"""
Whose documents a caller sees, how many, how long it waits, and nginx's own directives in
front of native resources.
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from harness import Nginx, until
from harness.crud import KINDS, STORES, schemas, start_crud, store_of

APP = """
from uuid import UUID

from databridge import App, Model

app = App()


class Task(Model):
    text: str = ""
    owner: str
    tenant: int = 0
    slug: str = ""


class Own(Model):
    id: str
    text: str = ""
    owner: str = ""


class Item(Model):
    id: int
    text: str = ""


app.crud_routes(
    Task,
    scope={"owner": "$http_x_user", "tenant": "$http_x_tenant"},
    unique=["tenant,slug"],
)
app.crud_routes(Own, scope={"owner": "$http_x_user"}, upsert=True, version=True)
app.crud_routes(Item, limit=2, max_limit=3, timeout=2)


@app.get("/")
async def root():
    return "here"
"""


@pytest.fixture(scope="module", params=STORES)
def server(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    server = start_crud(request.param, APP, workers=2, store=store_of(request))
    yield server
    problems = server.finish()
    assert problems == []


@pytest.fixture
def client(server: Nginx) -> httpx.Client:
    return server.client


def as_user(name: str, tenant: object = 1) -> dict[str, str]:
    return {"X-User": name, "X-Tenant": str(tenant)}


def task(client: httpx.Client, name: str, **members: Any) -> tuple[str, dict[str, Any]]:
    body = {"slug": uuid4().hex, **members}
    answer = client.post("/task", json=body, headers=as_user(name))
    assert answer.status_code == 201, answer.text
    document = answer.json()
    return f"/task/{document['id']}", document


# scope


def test_create_sets_what_the_variable_says_whatever_is_sent(client: httpx.Client) -> None:
    _, document = task(client, "ann", owner="bob", tenant=99)
    assert (document["owner"], document["tenant"]) == ("ann", 1)
    answer = client.post("/task", json=[{"owner": 7}], headers=as_user("ann", "+2"))
    assert answer.status_code == 201, answer.text
    (document,) = answer.json()
    assert (document["owner"], document["tenant"]) == ("ann", 2)


def test_a_document_cannot_be_given_away(client: httpx.Client) -> None:
    path, _ = task(client, "ann")
    slug = uuid4().hex
    for answer in (
        client.put(path, json={"owner": "bob", "slug": slug}, headers=as_user("ann")),
        client.patch(path, json={"owner": "bob", "tenant": 5}, headers=as_user("ann")),
        client.patch(path, json={"owner": None}, headers=as_user("ann")),
    ):
        assert answer.status_code == 200, answer.text
        assert (answer.json()["owner"], answer.json()["tenant"]) == ("ann", 1)


def test_an_id_is_one_for_all_scopes_and_a_conflict_tells_nothing_but_that(
    client: httpx.Client,
) -> None:
    name = uuid4().hex
    body = {"id": name, "text": "of ann"}
    assert client.post("/own", json=body, headers=as_user("ann")).status_code == 201
    for sent in (body, [body]):
        answer = client.post("/own", json=sent, headers=as_user("bob"))
        assert answer.status_code == 409
        assert answer.json() == {"detail": f"Own with id {name} already exists"}
    assert client.get(f"/own/{name}", headers=as_user("bob")).status_code == 404
    assert client.get(f"/own/{name}", headers=as_user("ann")).json()["text"] == "of ann"


def test_what_is_unique_with_the_scope_first_is_so_within_it(client: httpx.Client) -> None:
    body = {"slug": uuid4().hex}
    for tenant, status in ((1, 201), (2, 201), (1, 409)):
        answer = client.post("/task", json=body, headers=as_user("ann", tenant))
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("other", [as_user("bob"), as_user("ann", 2)])
def test_the_document_of_somebody_else_is_not_there(
    client: httpx.Client, other: dict[str, str]
) -> None:
    path, document = task(client, "ann", text="mine")
    assert client.get(path, headers=other).status_code == 404
    assert client.put(path, json={}, headers=other).status_code == 404
    assert client.patch(path, json={"text": "x"}, headers=other).status_code == 404
    assert client.delete(path, headers=other).status_code == 404
    assert client.get(path, headers=as_user("ann")).json() == document
    assert client.delete(path, headers=as_user("ann")).status_code == 204


def test_a_list_has_the_callers_documents_only(client: httpx.Client) -> None:
    mark = uuid4().hex
    for name in ("ann", "bob", "ann"):
        task(client, name, text=mark)
    for query in (
        {"text": mark},
        {"filter": json.dumps({"$or": [{"text": mark}, {"owner": "bob"}]}), "text": mark},
        {"text": mark, "sort": "-id", "limit": "1"},
    ):
        page = client.get("/task", params={**query, "count": "true"}, headers=as_user("ann"))
        assert page.json()["total"] == 2
        assert {item["owner"] for item in page.json()["items"]} == {"ann"}
    page = client.get("/task", params={"text": mark, "owner": "bob"}, headers=as_user("ann"))
    assert page.json()["items"] == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-User": "ann"},
        {"X-Tenant": "1"},
        as_user(""),
        as_user("ann", "x"),
        as_user("ann", ""),
    ],
)
def test_without_the_variable_everything_is_forbidden(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    path, _ = task(client, "ann")
    for answer in (
        client.get("/task", headers=headers),
        client.get(path, headers=headers),
        client.post("/task", json={}, headers=headers),
        client.post("/task", json=[], headers=headers),
        client.put(path, json={}, headers=headers),
        client.patch(path, json={}, headers=headers),
        client.delete(path, headers=headers),
    ):
        assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


def test_an_upsert_creates_for_the_caller_and_takes_from_nobody(client: httpx.Client) -> None:
    path = f"/own/{uuid4().hex}"
    answer = client.put(path, json={"text": "a", "owner": "bob"}, headers=as_user("ann"))
    assert (answer.status_code, answer.json()["owner"]) == (201, "ann")
    answer = client.put(path, json={"text": "b"}, headers=as_user("bob"))
    assert answer.status_code == 404
    answer = client.get(path, headers={**as_user("bob"), "If-None-Match": "*"})
    assert answer.status_code == 404
    assert client.get(path, headers=as_user("ann")).json()["text"] == "a"


def test_a_variable_that_does_not_exist_is_said(make_nginx: Callable[..., Nginx]) -> None:
    code = APP.replace("$http_x_tenant", "$no_such_thing")
    server = make_nginx()
    (server.prefix / "task.json").write_text(json.dumps(schemas(code)["/task"]))
    server.configure(
        http=f"databridge_store main sqlite:{server.prefix}/test.db;",
        server=f"location /task {{ databridge_crud task schema={server.prefix}/task.json; }}",
    )
    server.expect_alert("no_such_thing")
    result = server.test()
    assert result.returncode != 0
    assert 'unknown "no_such_thing" variable' in result.stderr

    server.write({"app.py": code})
    server.configure(
        "databridge_app app:app;", http=f"databridge_store main sqlite:{server.prefix}/test.db;"
    )
    server.start("/")
    assert server.logged(r'\[emerg\].*scope of Task.*"\$no_such_thing"')
    assert server.client.get("/task", headers=as_user("ann")).status_code == 403


def test_the_user_of_basic_authentication_is_a_scope(make_nginx: Callable[..., Nginx]) -> None:
    code = APP.replace("$http_x_user", "$remote_user")
    server = make_nginx()
    (server.prefix / "users").write_text("ann:{PLAIN}a\nbob:{PLAIN}b\n")
    server.write({"app.py": code})
    server.configure(
        "databridge_app app:app;",
        http=f"databridge_store main sqlite:{server.prefix}/test.db;",
        server=f'auth_basic "here"; auth_basic_user_file {server.prefix}/users;',
    )
    server.start(None)
    ann, bob = httpx.BasicAuth("ann", "a"), httpx.BasicAuth("bob", "b")
    until("CRUD", lambda: server.client.get("/own", auth=ann).status_code == 200, 15)
    answer = server.client.post("/own", json={"id": "1"}, auth=ann)
    assert answer.json()["owner"] == "ann"
    assert server.client.get("/own/1", auth=bob).status_code == 404
    assert server.client.get("/own/1").status_code == 401


def test_a_user_whose_name_is_no_text_is_none(make_nginx: Callable[..., Nginx]) -> None:
    code = APP.replace(
        "app.crud_routes(Own,",
        """
@app.crud(Item, prefix="/hybrid", collection="hybrid", scope={"text": "$http_x_user"})
class Hybrid:
    def before_create(self, item: Item): ...
    def before_patch(self, item: Item): ...
    def before_delete(self, id: int): ...

app.crud_routes(Own,""",
    )
    server = make_nginx()
    server.write({"app.py": code})
    server.configure(
        "databridge_app app:app;", http=f"databridge_store main sqlite:{server.prefix}/test.db;"
    )
    server.start("/")
    for path in ("/own", "/hybrid"):
        for method, url, body in (
            ("GET", path, None),
            ("POST", path, {"id": 1}),
            ("PATCH", f"{path}/1", {}),
            ("DELETE", f"{path}/1", None),
        ):
            answer = server.client.request(method, url, json=body, headers={b"X-User": b"\xff"})
            assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


@pytest.mark.parametrize("guard", ["", "satisfy any; allow 127.0.0.1; deny all;"])
def test_a_user_whom_nobody_has_authenticated_is_none(
    make_nginx: Callable[..., Nginx], guard: str
) -> None:
    """In a native resource, and in a hybrid one, whatever else has looked at the variable."""
    code = APP.replace("$http_x_user", "$remote_user").replace(
        "app.crud_routes(Own,",
        """
@app.crud(Item, prefix="/hybrid", collection="hybrid", scope={"text": "$remote_user"})
class Hybrid:
    def before_create(self, item: Item): ...

app.crud_routes(Own,""",
    )
    server = make_nginx()
    (server.prefix / "users").write_text("ann:{PLAIN}a\n")
    server.write({"app.py": code})
    basic = f'auth_basic "here"; auth_basic_user_file {server.prefix}/users;' if guard else ""
    server.configure(
        f"databridge_app app:app; {guard} {basic}",
        http=f"databridge_store main sqlite:{server.prefix}/test.db;",
        server="set $claimed $remote_user;",
    )
    server.start("/")
    claimed = httpx.BasicAuth("ann", "wrong")
    for answer in (
        server.client.get("/own", auth=claimed),
        server.client.post("/own", json={"id": "1"}, auth=claimed),
        server.client.post("/hybrid", json={"id": 1}, auth=claimed),
    ):
        assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


def test_neither_is_he_where_there_is_no_application(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    code = APP.replace("$http_x_user", "$remote_user")
    (server.prefix / "own.json").write_text(json.dumps(schemas(code)["/own"]))
    (server.prefix / "users").write_text("ann:{PLAIN}a\n")
    server.configure(
        http=f"databridge_store main sqlite:{server.prefix}/test.db;",
        server=f"""
        set $claimed $remote_user;
        location /own {{ databridge_crud own schema={server.prefix}/own.json; }}
        location /mine {{
            auth_basic "here"; auth_basic_user_file {server.prefix}/users;
            databridge_crud own schema={server.prefix}/own.json;
        }}
        """,
    )
    server.start()
    claimed = httpx.BasicAuth("ann", "wrong")
    assert server.client.get("/own", auth=claimed).status_code == 403
    assert server.client.get("/mine", auth=claimed).status_code == 401
    assert server.client.get("/mine", auth=("ann", "a")).status_code == 200


# limits


def test_limits_are_the_resources_own(client: httpx.Client) -> None:
    start = int(uuid4().hex[:8], 16)
    client.post("/item", json=[{"id": start + number} for number in range(5)])
    assert len(client.get("/item").json()["items"]) == 2
    assert client.get("/item").json()["limit"] == 2
    assert len(client.get("/item?limit=3").json()["items"]) == 3
    answer = client.get("/item?limit=4")
    assert answer.json() == {"detail": "limit must be an int from 1 to 3"}
    assert answer.status_code == 400


# timeout


def held(server: Nginx) -> Any:
    """The lock that writers queue by: who has it, writes."""
    lock = Path(f"{server.prefix}/test.db.writer").open("rb+")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


@pytest.mark.parametrize("server", KINDS, indirect=True)
def test_a_store_that_is_late_is_a_504_and_may_have_written(
    server: Nginx, client: httpx.Client
) -> None:
    id = int(uuid4().hex[:8], 16)
    path = f"/item/{id}"
    assert client.post("/item", json={"id": id}).status_code == 201
    with held(server):
        answer = client.patch(path, json={"text": "late"})
        assert (answer.status_code, answer.json()) == (504, {"detail": "Gateway Timeout"})
        assert client.get(path).json()["text"] == ""
        with pytest.raises(httpx.ReadTimeout):
            client.put(f"{path}", json={"text": "later"}, timeout=0.1)
    until("the write", lambda: client.get(path).json()["text"] == "later", 10)
    assert client.patch(path, json={"text": "now"}).status_code == 200


# what nginx does by itself


CLOSED = """
location = /_auth { internal; if ($http_x_user = ann) { return 204; } return 403; }
"""


@pytest.mark.parametrize("kind", KINDS)
def test_nginx_guards_and_adds_to_native_resources(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server = start_crud(
        kind,
        APP,
        http="limit_req_zone $http_x_key zone=keys:1m rate=1r/m;",
        server=CLOSED,
        location=(
            "auth_request /_auth; limit_req zone=keys; add_header X-Here yes always;"
            ' databridge_cors "origins=https://a.example" "expose=ETag Location";'
        ),
    )
    try:
        client = server.client
        until("ann", lambda: client.get("/own", headers=as_user("ann")).status_code == 200, 15)
        assert client.get("/own", headers=as_user("bob")).status_code == 403

        origin = {**as_user("ann"), "Origin": "https://a.example"}
        answer = client.put("/own/1", json={}, headers=origin)
        assert answer.status_code == 201
        assert answer.headers["x-here"] == "yes"
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert answer.headers["access-control-expose-headers"] == "ETag, Location"
        answer = client.get("/own/1", headers={**origin, "If-None-Match": '"1"'})
        assert (answer.status_code, answer.headers["x-here"]) == (304, "yes")
        assert answer.headers["access-control-allow-origin"] == "https://a.example"

        limited = {**as_user("ann"), "X-Key": "k"}
        statuses = [client.patch("/own/1", json={}, headers=limited).status_code for _ in "ab"]
        assert statuses == [200, 503]
    finally:
        problems = server.finish()
    assert problems == []
