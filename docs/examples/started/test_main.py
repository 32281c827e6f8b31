import httpx
from fastapi.testclient import TestClient
from main import app

from databridge import testing
from databridge.testing import Server

server = testing.fixture(app)


def test_recipes_are_stored_by_nginx(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        created = client.post("/recipes", json={"title": "Soup", "minutes": 40})
        assert created.status_code == 201
        quick = client.get('/recipes?filter={"minutes":{"$lte":20}}').json()
        assert quick["items"] == []
        assert client.get(created.headers["location"]).json()["title"] == "Soup"


def test_the_hook_refuses(server: Server) -> None:
    recipe = {"title": "Salad", "minutes": 90, "tags": ["raw"]}
    assert httpx.post(f"{server.url}/recipes", json=recipe).status_code == 422


def test_portions_need_no_server() -> None:
    client = TestClient(app)
    assert client.get("/portions?guests=3&hungry=true").json() == {"portions": 6}
