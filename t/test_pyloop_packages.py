"""What people run on an event loop, on PyLoop: by itself and in nginx's handlers."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import databridge
from harness import ROOT, Nginx, sessions

Session = Callable[[str], Coroutine[Any, Any, None]]

APP = f"""
import asyncio
import os
import signal
import sys

from fastapi import FastAPI

sys.path.insert(0, {str(ROOT / "t" / "harness")!r})

import sessions

app = FastAPI()


@app.get("/")
async def loop() -> str:
    return type(asyncio.get_running_loop()).__module__


@app.get("/run/{{name}}")
async def run(name: str, argument: str) -> str:
    await getattr(sessions, name)(argument)
    return "done"


@app.get("/signals")
async def signals() -> dict[str, str]:
    loop = asyncio.get_running_loop()
    answers = {{}}
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGUSR1", "SIGQUIT"):
        try:
            loop.add_signal_handler(getattr(signal, name), int)
        except Exception as error:
            answers[name] = f"{{type(error).__name__}}: {{error}}"
        else:
            answers[name] = "taken"
    return answers


@app.get("/own-signal")
async def own_signal() -> str:
    loop = asyncio.get_running_loop()
    heard = loop.create_future()
    loop.add_signal_handler(signal.SIGRTMIN, heard.set_result, "heard")
    os.kill(os.getpid(), signal.SIGRTMIN)
    try:
        return await asyncio.wait_for(heard, 10)
    finally:
        loop.remove_signal_handler(signal.SIGRTMIN)
"""

ALL = [*sessions.STANDARD, *sessions.PACKAGES]


def alone(session: Session, argument: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "asyncio")
    databridge.run(asyncio.wait_for(session(argument), 50))
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("session", ALL, ids=lambda session: session.__name__)
def test_a_session_ends_well_by_itself(
    session: Session, certificate: str, caplog: pytest.LogCaptureFixture
) -> None:
    alone(session, certificate, caplog)


def test_pymongo_s_client_works_by_itself(mongodb: str, caplog: pytest.LogCaptureFixture) -> None:
    alone(sessions.mongo, mongodb, caplog)


@pytest.mark.parametrize("session", ALL, ids=lambda session: session.__name__)
def test_a_session_ends_well_in_nginx(
    session: Session, certificate: str, shared_app: Nginx
) -> None:
    answer = shared_app.client.get(
        f"/run/{session.__name__}", params={"argument": certificate}, timeout=50
    )
    assert (answer.status_code, answer.text) == (200, '"done"')


def test_pymongo_s_client_works_in_nginx(mongodb: str, shared_app: Nginx) -> None:
    answer = shared_app.client.get("/run/mongo", params={"argument": mongodb}, timeout=50)
    assert (answer.status_code, answer.text) == (200, '"done"')


def test_nginx_s_signals_are_refused_and_say_whose_they_are(shared_app: Nginx) -> None:
    answers = shared_app.client.get("/signals").json()
    assert len(answers) == 6
    for name, answer in answers.items():
        assert answer.startswith(f"NotImplementedError: {name} belongs to nginx"), answers


def test_a_signal_that_is_not_nginx_s_may_be_handled(shared_app: Nginx) -> None:
    assert shared_app.client.get("/own-signal").json() == "heard"


def test_a_runner_and_a_policy_make_pyloop() -> None:
    async def kind() -> type:
        return type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=databridge.new_event_loop) as runner:
        assert runner.run(kind()) is databridge.PyLoop
    policy = databridge.EventLoopPolicy()
    loop = policy.new_event_loop()
    assert loop.run_until_complete(kind()) is databridge.PyLoop
    loop.close()


def test_a_signal_raised_before_the_loop_waits_is_heard() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        heard = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, heard.set_result, "heard")
        signal.raise_signal(signal.SIGUSR1)
        try:
            return str(await asyncio.wait_for(heard, 10))
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    assert databridge.run(main()) == "heard"
