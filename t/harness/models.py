"""Models that do what native CRUD leaves to pydantic."""

from typing import Any

from pydantic import BaseModel, field_serializer


class Serialized(BaseModel):
    a: int

    @field_serializer("a")
    def write(self, value: int) -> str:
        return str(value)


class PostInit(BaseModel):
    a: int

    def model_post_init(self, context: Any) -> None:
        self.a += 1
