"""Native CRUD: models declared here, requests answered by nginx without Python.

databridge run crud:app --app-dir examples

GET    /user?limit=10&skip=0&count=true&name=Ann
POST   /user
GET    /user/{id}
PUT    /user/{id}
DELETE /user/{id}
"""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from databridge import App, Field, Model

app = App(title="CRUD")


class Address(Model):
    street: str
    city: str


@app.get("/user/me")
async def me() -> dict[str, str]:
    """Declared before the CRUD of /user, so it comes first."""
    return {"name": "whoever asks"}


class User(Model):
    name: str = Field(min_length=1, max_length=50)
    age: int = Field(ge=0, le=150)
    email: str | None = Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$")
    addresses: list[Address] = []


@app.crud(User)
class UserRoutes:
    """All five operations, at /user."""


class Event(Model):
    id: UUID = Field(default_factory=uuid4)
    kind: str
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    details: dict[str, str] = {}


app.crud_routes(Event, prefix="/events", operations=("list", "get", "create"))
