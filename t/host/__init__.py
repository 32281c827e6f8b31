"""The host of Python without nginx, and the client that drives it."""

from host.client import ABORT, DONE, LAST, START, Host, Response

__all__ = ["ABORT", "DONE", "LAST", "START", "Host", "Response"]
