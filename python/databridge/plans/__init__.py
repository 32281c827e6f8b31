"""FastAPI's routes, compiled to what nginx's module runs without FastAPI.

`spec` is what the module takes; the other modules make it of an application.  They use
what is FastAPI's own business, so that nothing of them is imported before
`fingerprints` knows the release.
"""

from typing import TYPE_CHECKING, Any

from databridge.plans import fingerprints

if TYPE_CHECKING:
    from databridge.plans.compiler import Planner


class Unplanned(Exception):
    """Why a route, or an application, has no plan; the text is for the user."""


def planner(app: Any, root_path: str = "") -> "Planner":
    """What makes the plans of a FastAPI application; raises `Unplanned`.

    `root_path` is the server's.
    """
    if difference := fingerprints.difference():
        raise Unplanned(difference)

    try:
        from databridge.plans.compiler import Planner

        return Planner(app, root_path)
    except Unplanned:
        raise
    except Exception as exc:
        raise Unplanned(f"{type(exc).__name__}: {exc}") from exc
