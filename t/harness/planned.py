"""Plans made by hand, as tests see them."""

from pathlib import Path

import httpx

HANDMADE = Path(__file__).with_name("handmade.py").read_text()


def kind(answer: httpx.Response) -> str:
    """plan, asgi, or plan-asgi of one that a plan has left to the application."""
    handed = answer.headers["x-kind"]
    return f"{handed}-asgi" if handed == "plan" and "asgi" in str(answer.content) else handed
