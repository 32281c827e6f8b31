from typing import Final, Literal, TypedDict, final, type_check_only

MAX_ITEMS: Final[int]
"""Documents of one POST."""

MAX_DOCUMENT: Final[int]
"""Bytes of a body."""

@type_check_only
class Selection(TypedDict):
    limit: int
    skip: int
    count: bool
    where: list[tuple[str, str | int | float | bool, bool]]

@final
class Resource:
    @property
    def name(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def collection(self) -> str: ...
    @property
    def store(self) -> str: ...
    @property
    def operations(self) -> tuple[str, ...]: ...
    def call(
        self,
        operation: str,
        *,
        id: str = "",
        query: str = "",
        content_type: str = "application/json",
        body: bytes = b"",
        current: bytes = ...,
    ) -> (
        tuple[Literal["answer"], int, bytes]
        | tuple[Literal["store"], str, str | int | None, bytes | list[bytes] | Selection]
    ): ...
    def renamed(self, document: bytes, patch: bytes, /) -> bytes: ...

def compile(schema: str, /) -> Resource: ...
