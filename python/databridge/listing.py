"""`databridge routes`: an application's routes, and who answers each of them."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from databridge.declared import Declared, declaration

COLORS = {"native": "green", "plan": "green", "hybrid": "yellow", "asgi": "red"}


def rows(app: Any) -> list[dict[str, Any]]:
    """The routes, for programs."""
    return [
        {
            "methods": list(route.methods),
            "path": route.path,
            "kind": route.kind,
            "reason": route.reason,
        }
        for route in declaration(app).routes
    ]


def show(app: Any) -> None:
    """The routes, for people; a pipe gets lines of any width."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = 10_000
    found = declaration(app)
    if not found.routes:
        console.print(
            "neither Starlette nor FastAPI made the application: nginx knows no routes of it,"
            " all requests are Python's"
        )
        return
    if found.unplanned:
        console.print(f"no plans: {found.unplanned}", markup=False)
    table = Table("METHODS", "PATH", "BY", "WHY", box=None, pad_edge=False, header_style="bold")
    for route in found.routes:
        table.add_row(
            ",".join(route.methods) or "any",
            Text(route.path or "any"),
            Text(route.kind, COLORS[route.kind]),
            Text(_reason(route, found.unplanned)),
        )
    console.print(table)


def _reason(route: Declared, said: str) -> str:
    """What has been said of all routes is not said again."""
    return "no plans" if said and route.reason == said else route.reason
