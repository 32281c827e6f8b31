"""What the tests run against: real servers in temporary prefixes, on free ports."""

from harness.log import Log
from harness.mongo import Between, MongoServer, OddServer
from harness.nginx import Nginx, SecureNginx
from harness.raw import Raw, RawResponse
from harness.server import Gunicorn, Server, Uvicorn
from harness.settings import (
    BUILD,
    DATABRIDGE,
    MODULE,
    NGINX,
    PYTHON,
    ROOT,
    SANITIZED,
    SLOWER,
)
from harness.traffic import Traffic
from harness.wait import eventually, until

__all__ = [
    "BUILD",
    "Between",
    "DATABRIDGE",
    "Gunicorn",
    "MODULE",
    "NGINX",
    "PYTHON",
    "ROOT",
    "SANITIZED",
    "SLOWER",
    "Log",
    "MongoServer",
    "Nginx",
    "OddServer",
    "Raw",
    "RawResponse",
    "SecureNginx",
    "Server",
    "Traffic",
    "Uvicorn",
    "eventually",
    "until",
]
