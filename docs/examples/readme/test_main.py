import httpx

from databridge import testing

server = testing.fixture("main:app")  # pytest: nginx on a free port, with a store of its own


def test_hello(server: testing.Server) -> None:
    assert httpx.get(f"{server.url}/hello/ann").json() == {"hello": "ann"}
