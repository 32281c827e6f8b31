"""The stubs of what is written in C say what is there: mypy's stubtest is the judge."""

import os
import subprocess

from conftest import StartApp
from harness import PYTHON, ROOT, SLOWER
from harness.settings import server_env

EXTENSIONS = ("databridge._pyloop", "databridge._crud", "databridge._store")

INSIDE = f"""
import contextlib
import io
import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root():
    return "here"


@app.get("/stubtest")
def judge():
    os.environ["MYPYPATH"] = "{ROOT}/python"
    from mypy import stubtest

    options = stubtest.parse_options(["_databridge", "--mypy-config-file", "{ROOT}/mypy.ini"])
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = stubtest.test_stubs(options)
    return {{"status": status, "output": output.getvalue()}}
"""


def test_the_extensions_are_what_their_stubs_say() -> None:
    command = [PYTHON, "-m", "mypy.stubtest", "--mypy-config-file", "mypy.ini", *EXTENSIONS]
    path = os.pathsep.join(filter(None, [server_env().get("PYTHONPATH"), str(ROOT / "python")]))
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**server_env(), "MYPYPATH": str(ROOT / "python"), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=55 * SLOWER,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_module_that_nginx_has_is_what_its_stub_says(app: StartApp) -> None:
    server = app(INSIDE, location="databridge_timeout 0;")
    answer = server.client.get("/stubtest", timeout=50 * SLOWER).json()
    assert answer["status"] == 0, answer["output"]
