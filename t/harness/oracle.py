"""Native validation beside FastAPI's own, for the same models.

Every body goes to a FastAPI application with the model and to the C code; status and whole
body must agree.  Where they may not, `agree` says why.
"""

import asyncio
import json
import re
import weakref
from collections.abc import Iterable
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field, TypeAdapter

from databridge import _crud
from databridge.crud import schema_for

Answer = tuple[int, bytes]

INT = TypeAdapter(int)
TOO_BIG = "Unable to parse input string as an integer, exceeded maximum size"

#: Texts that json.loads() takes and the native reader does not.
OWN_REFUSALS = (
    "Out of range float values are not JSON compliant",
    "Lone surrogate in a string",
    "Nested too deeply",
)


class Oracle:
    """The models as native resources and as routes of a FastAPI application."""

    def __init__(self, models: Iterable[type[BaseModel]]) -> None:
        self.loop = asyncio.new_event_loop()
        weakref.finalize(self, self.loop.close)
        self.app = FastAPI()
        self.resources = {}
        for model in models:
            schema = schema_for(model)
            assert "hybrid" not in schema, schema["hybrid"]
            self.resources[model] = _crud.compile(json.dumps(schema))
            self.declare(model)

        @self.app.get("/int/{id}")
        async def get_int(id: int) -> int:
            return id

        @self.app.get("/uuid/{id}")
        async def get_uuid(id: UUID) -> UUID:
            return id

    def declare(self, model: type[BaseModel]) -> None:
        async def create(document: Any) -> Response:
            return Response(document.model_dump_json(by_alias=True), 201)

        async def create_many(documents: Any) -> Response:
            texts = [document.model_dump_json(by_alias=True) for document in documents]
            return Response("[" + ",".join(texts) + "]", 201)

        create.__annotations__["document"] = model
        self.app.post(f"/{model.__name__}")(create)
        many = Annotated[list[model], Field(max_length=1000)]  # type: ignore[valid-type]
        create_many.__annotations__["documents"] = many
        self.app.post(f"/{model.__name__}/many")(create_many)

    def ask(self, method: str, path: str, body: bytes, content_type: str | None) -> Answer:
        headers = (
            [] if content_type is None else [(b"content-type", content_type.encode("latin-1"))]
        )
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        status = 0
        chunks: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                chunks.append(message.get("body", b""))

        async def main() -> None:
            try:
                await self.app(scope, receive, send)
            except Exception:
                assert status == 500  # FastAPI's own failure, already answered

        self.loop.run_until_complete(main())
        return status, b"".join(chunks)

    def oracle(self, model: type[BaseModel], body: bytes, content_type: str | None) -> Answer:
        many = "/many" if content_type == "application/json" and is_array(body) else ""
        return self.ask("POST", f"/{model.__name__}{many}", body, content_type)

    def native(self, model: type[BaseModel], body: bytes, content_type: str | None) -> Answer:
        result = self.resources[model].call("create", content_type=content_type or "", body=body)
        if result[0] == "answer":
            return result[1], result[2]
        document = result[3]
        if isinstance(document, list):
            return 201, b"[" + b",".join(without_id(model, item) for item in document) + b"]"
        assert isinstance(document, bytes)
        assert json.loads(document)["id"] == result[2]
        return 201, without_id(model, document)

    def agree(
        self, model: type[BaseModel], body: bytes, content_type: str | None = "application/json"
    ) -> None:
        theirs = self.oracle(model, body, content_type)
        ours = self.native(model, body, content_type)
        assert ours[0] in (201, 400, 422)
        json.loads(ours[1])
        if theirs == ours:
            return
        problem = f"{body[:300]!r}\nFastAPI: {theirs}\nnative:  {ours}"
        if theirs[0] == 500:
            # NaN, infinities and lone surrogates break FastAPI's answer: ours is an error
            assert ours[0] in (400, 422), problem
        elif theirs[0] == 201 and ours[0] == 422:
            # no store keeps an int beyond 64 bits, no JSON text holds what is not finite
            errors = json.loads(ours[1])["detail"]
            for error in errors:
                if error["type"] == "int_parsing_size":
                    assert error["msg"] == TOO_BIG, problem
                    assert not -(2**63) <= INT.validate_python(error["input"]) < 2**63, problem
                elif error["type"] == "finite_number":
                    assert abs(float(error["input"].replace("_", ""))) in (float("inf"),) or (
                        "nan" in error["input"].lower()
                    ), problem
                else:
                    assert error["type"] == "json_invalid", problem
                    text = error["ctx"]["error"]
                    assert text in OWN_REFUSALS, problem
        elif theirs[0] == 422 and ours[0] == 422:
            errors = json.loads(ours[1])["detail"]
            common = without_our_own(errors)
            assert len(common) < len(errors) or own_refusal(ours[1]), problem
            accepted = json.loads(theirs[1])["detail"]
            # a value of those counts for them, but not for us, towards a dict's max_length
            if not own_refusal(ours[1]) and "too_long" not in {error["type"] for error in accepted}:
                assert all(error in accepted for error in common), problem
        else:
            raise AssertionError(problem)


def is_array(body: bytes) -> bool:
    """What creates many documents: FastAPI has a route of its own for that."""
    try:
        return isinstance(json.loads(body), list)
    except ValueError:
        return False


def without_id(model: type[BaseModel], document: bytes) -> bytes:
    if "id" in model.model_fields:
        return document
    return re.sub(rb'^\{"id":"[0-9a-f]{24}",?', b"{", document)


def without_our_own(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors but those of values that pydantic takes and no store can keep."""
    kept = []
    for error in errors:
        if error["type"] == "int_parsing_size" and isinstance(error["input"], (int, str)):
            continue
        if error["type"] == "finite_number" and isinstance(error["input"], str):
            continue
        kept.append(error)
    return kept


def own_refusal(body: bytes) -> bool:
    error = json.loads(body)["detail"][0]
    return error["type"] == "json_invalid" and error["ctx"]["error"] in OWN_REFUSALS
