"""
Versions of documents: ETag, If-Match and If-None-Match, and writers that race with them.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from harness import Nginx
from harness.crud import STORES, start_crud, store_of

APP = """
from databridge import App, Model

app = App()


class Note(Model):
    text: str = ""
    count: int = 0
    pad: str = ""


class Doc(Model):
    id: str
    text: str = ""


class Kept(Model):
    id: str
    text: str = ""
    owner: str = "nobody"


class Plain(Model):
    id: str
    text: str = ""


app.crud_routes(Note, version=True, collection="note")
app.crud_routes(Doc, version=True, upsert=True)
app.crud_routes(Kept, require_match=True, immutable=["owner"])
app.crud_routes(Plain)


@app.get("/")
async def root():
    return "here"
"""

COUNTS = 12
CLIENTS = 8


@pytest.fixture(scope="module", params=STORES)
def server(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    server = start_crud(
        request.param,
        APP,
        workers=2,
        http="gzip on; gzip_types application/json; gzip_min_length 100;",
        store=store_of(request),
    )
    yield server
    problems = server.finish()
    assert problems == []


@pytest.fixture
def client(server: Nginx) -> httpx.Client:
    return server.client


def note(client: httpx.Client, **members: Any) -> str:
    answer = client.post("/note", json=members)
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    return f"/note/{answer.json()['id']}"


def match(*tags: str) -> dict[str, str]:
    return {"If-Match": ", ".join(tags)}


def test_every_write_has_the_next_version_as_its_etag(client: httpx.Client) -> None:
    path = note(client)
    assert client.get(path).headers["etag"] == '"1"'
    assert client.put(path, json={"text": "b"}).headers["etag"] == '"2"'
    assert client.patch(path, json={"text": "c"}).headers["etag"] == '"3"'
    answer = client.get(path)
    assert answer.headers["etag"] == '"3"'
    assert list(answer.json()) == ["id", "text", "count", "pad"]
    assert client.head(path).headers["etag"] == '"3"'
    assert "etag" not in client.get("/note").headers
    assert "etag" not in client.post("/note", json=[{}]).headers


def test_a_resource_without_versions_has_no_etag_and_knows_no_match(client: httpx.Client) -> None:
    answer = client.post("/plain", json={"id": uuid4().hex})
    path = f"/plain/{answer.json()['id']}"
    assert "etag" not in answer.headers
    for headers in (match('"1"'), match("*")):
        assert client.put(path, json={}, headers=headers).status_code == 200
        assert client.get(path, headers=headers).status_code == 200
    answer = client.get(path, headers={"If-None-Match": "*"})
    assert (answer.status_code, "etag" in answer.headers) == (200, False)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_write_with_another_version_is_412_and_writes_nothing(
    client: httpx.Client, method: str
) -> None:
    path = note(client, text="a")
    client.patch(path, json={"text": "b"})
    for tags in (['"1"'], ['"3"'], ['W/"2"'], ['"x"'], ['"02"'], ["2"], ['"1"', '"3"']):
        body = None if method == "DELETE" else {"text": "lost"}
        answer = client.request(method, path, json=body, headers=match(*tags))
        assert answer.status_code == 412, tags
        assert answer.json() == {"detail": "Precondition Failed"}
    assert client.get(path).json()["text"] == "b"


@pytest.mark.parametrize("tags", [['"2"'], ["*"], ['"1"', '"2"'], ['W/"2"', '"7,2"', '"2"']])
def test_a_write_with_its_version_is_done(client: httpx.Client, tags: list[str]) -> None:
    path = note(client, text="a")
    client.patch(path, json={"text": "b"})
    answer = client.put(path, json={"text": "c"}, headers=match(*tags))
    assert (answer.status_code, answer.headers["etag"]) == (200, '"3"')
    again = match('"3"', *tags)
    assert client.patch(path, json={"text": "d"}, headers=again).headers["etag"] == '"4"'
    assert client.delete(path, headers=match('"4"')).status_code == 204


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_second_line_of_if_match_is_refused_by_nginx(client: httpx.Client, method: str) -> None:
    path = note(client, text="a")
    body = None if method == "DELETE" else {"text": "lost"}
    for tags in (('"1"', '"7"'), ('"7"', '"1"'), ("", '"1"')):
        headers = [("If-Match", tag) for tag in tags]
        assert client.request(method, path, json=body, headers=headers).status_code == 400
    assert client.get(path).json()["text"] == "a"
    headers = [("If-None-Match", '"7"'), ("If-None-Match", '"1"')]
    assert client.get(path, headers=headers).status_code == 400


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("resource", ["note", "kept"])
def test_an_empty_if_match_names_no_version(
    client: httpx.Client, resource: str, method: str
) -> None:
    created = client.post(f"/{resource}", json={"id": uuid4().hex} if resource == "kept" else {})
    path = f"/{resource}/{created.json()['id']}"
    body = None if method == "DELETE" else {"text": "lost"}
    for empty in ("", ",", ", ,"):
        answer = client.request(method, path, json=body, headers={"If-Match": empty})
        assert answer.status_code == 412, empty
    assert client.get(path).json()["text"] == ""


def test_a_document_that_is_created_again_begins_at_version_1(client: httpx.Client) -> None:
    body = {"id": uuid4().hex}
    path = f"/doc/{body['id']}"
    for _ in range(2):
        assert client.post("/doc", json=body).headers["etag"] == '"1"'
        assert client.put(path, json=body).headers["etag"] == '"2"'
        assert client.delete(path).status_code == 204


def test_what_is_not_there_is_404_whatever_is_to_match(client: httpx.Client) -> None:
    path = f"/note/{'0' * 24}"
    for headers in (match('"1"'), match("*"), {}):
        assert client.put(path, json={}, headers=headers).status_code == 404
        assert client.patch(path, json={}, headers=headers).status_code == 404
        assert client.delete(path, headers=headers).status_code == 404


def test_an_upsert_with_if_match_creates_nothing(client: httpx.Client) -> None:
    path = f"/doc/{uuid4().hex}"
    for tag in ("*", '"1"'):
        assert client.put(path, json={"text": "x"}, headers=match(tag)).status_code == 412
    assert client.get(path).status_code == 404
    answer = client.put(path, json={"text": "x"})
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    answer = client.put(path, json={"text": "y"}, headers=match("*"))
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')


def none_match(tags: str) -> dict[str, str]:
    return {"If-None-Match": tags}


def test_an_upsert_with_if_none_match_creates_and_replaces_nothing(client: httpx.Client) -> None:
    path = f"/doc/{uuid4().hex}"
    first = client.put(path, json={"text": "x"}, headers=none_match("*"))
    assert (first.status_code, first.headers["etag"]) == (201, '"1"')
    for tags in ("*", '"1"', 'W/"1"', '"7", "1"'):
        answer = client.put(path, json={"text": "y"}, headers=none_match(tags))
        assert (answer.status_code, answer.json()) == (412, {"detail": "Precondition Failed"})
    assert client.get(path).json()["text"] == "x"
    answer = client.put(path, json={"text": "y"}, headers=none_match('"2", "x"'))
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_write_of_a_version_that_it_may_not_be_is_412(client: httpx.Client, method: str) -> None:
    path = note(client, text="a")
    client.patch(path, json={"text": "b"})
    body = None if method == "DELETE" else {"text": "c"}
    for headers in (
        none_match("*"),
        none_match('W/"2"'),
        none_match('"1", "2"'),
        {**match('"2"'), **none_match('"2"')},
        {**match('"1"'), **none_match('"1"')},
    ):
        answer = client.request(method, path, json=body, headers=headers)
        assert answer.status_code == 412, headers
    assert client.get(path).json()["text"] == "b"
    headers = {**match('"1"', '"2"'), **none_match('"1"')}
    assert client.request(method, path, json=body, headers=headers).is_success
    missing = client.request(method, f"/note/{'0' * 24}", json=body, headers=none_match("*"))
    assert missing.status_code == 404


def test_of_two_that_create_by_if_none_match_one_does(server: Nginx) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            url = f"{server.base_url}/doc/{uuid4().hex}"
            answers = pool.map(
                lambda n, url=url: httpx.put(url, json={"text": str(n)}, headers=none_match("*")),
                range(8),
            )
            assert sorted(answer.status_code for answer in answers) == [201, *[412] * 7]


def test_what_the_client_has_is_304_without_a_body(client: httpx.Client) -> None:
    path = note(client)
    client.patch(path, json={"text": "b"})
    for tags in ('"2"', 'W/"2"', '"1", "2"', "*", 'W/"9" , W/"2"'):
        for method in ("GET", "HEAD"):
            answer = client.request(method, path, headers={"If-None-Match": tags})
            assert (answer.status_code, answer.content) == (304, b""), tags
            assert answer.headers["etag"] == '"2"'
            assert "content-length" not in answer.headers
            assert "content-type" not in answer.headers
    for tags in ('"1"', '"x"', "2", 'W/"22"'):
        assert client.get(path, headers={"If-None-Match": tags}).status_code == 200
    missing = client.get(f"/note/{'0' * 24}", headers={"If-None-Match": "*"})
    assert missing.status_code == 404


def test_a_connection_lives_on_after_a_304(server: Nginx, client: httpx.Client) -> None:
    path = note(client)
    with httpx.Client(base_url=client.base_url) as own:
        for _ in range(3):
            assert own.get(path, headers={"If-None-Match": '"1"'}).status_code == 304
            assert own.get(path).status_code == 200


def test_gzip_leaves_the_etag_what_if_match_wants(client: httpx.Client) -> None:
    path = note(client, pad="x" * 4000)
    answer = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    headers = match(answer.headers["etag"])
    assert client.patch(path, json={"text": "x"}, headers=headers).status_code == 200


def test_conditions_that_nginx_knows_do_not_undo_an_answer(client: httpx.Client) -> None:
    path = note(client)
    headers = {"If-Modified-Since": "Sat, 01 Jan 2028 00:00:00 GMT"}
    assert client.get(path, headers=headers).status_code == 200
    headers = {"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}
    assert client.put(path, json={}, headers=headers).status_code == 200


def test_too_many_versions_to_match_are_refused(client: httpx.Client) -> None:
    path = note(client)
    headers = match(*(f'"{number}"' for number in range(65)))
    answer = client.put(path, json={}, headers=headers)
    assert answer.status_code == 400
    assert "If-Match" in answer.json()["detail"]


def test_where_a_match_is_required_its_absence_is_428(client: httpx.Client) -> None:
    id = uuid4().hex
    answer = client.post("/kept", json={"id": id, "owner": "me"})
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    path = f"/kept/{id}"
    for answer in (
        client.put(path, json={}),
        client.patch(path, json={}),
        client.delete(path),
        client.put(f"/kept/{uuid4().hex}", json={}),
    ):
        assert answer.status_code == 428
        assert answer.json() == {"detail": "Precondition Required"}
    answer = client.put(path, json={"text": "x"}, headers=match('"1"'))
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json() == {"id": id, "text": "x", "owner": "me"}
    stale = client.put(path, json={"owner": "you"}, headers=match('"1"'))
    assert stale.status_code == 412
    assert client.delete(path, headers=match('"2"')).status_code == 204


def test_a_counter_by_if_match_loses_no_update(client: httpx.Client) -> None:
    path = note(client)

    def count(_: int) -> int:
        lost = 0
        with httpx.Client(base_url=client.base_url) as own:
            for _ in range(COUNTS):
                while True:
                    read = own.get(path)
                    value = read.json()["count"] + 1
                    headers = match(read.headers["etag"])
                    answer = own.patch(path, json={"count": value}, headers=headers)
                    if answer.status_code == 200:
                        break
                    assert answer.status_code == 412
                    lost += 1
        return lost

    with ThreadPoolExecutor(CLIENTS) as pool:
        lost = sum(pool.map(count, range(CLIENTS)))
    answer = client.get(path)
    assert answer.json()["count"] == COUNTS * CLIENTS
    assert answer.headers["etag"] == f'"{1 + COUNTS * CLIENTS}"'
    assert lost > 0, "nobody raced: the test has shown nothing"


def test_of_many_who_delete_one_version_one_does(client: httpx.Client) -> None:
    path = note(client)

    def delete(_: int) -> int:
        with httpx.Client(base_url=client.base_url) as own:
            return own.delete(path, headers=match('"1"')).status_code

    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = sorted(pool.map(delete, range(CLIENTS)))
    assert statuses == [204] + [404] * (CLIENTS - 1)
