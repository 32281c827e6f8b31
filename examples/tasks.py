"""Tasks: work that goes on after the answer, and work done side by side.

databridge run tasks:app --app-dir examples
"""

import asyncio
from typing import Literal
from uuid import uuid4

from databridge import App, HTTPException, Model

app = App(title="Tasks")

State = Literal["running", "done", "cancelled"]


class Job(Model):
    id: str
    state: State


# The event loop holds tasks weakly: keep a reference while they run.
jobs: dict[str, asyncio.Task[None]] = {}


def state(task: asyncio.Task[None]) -> State:
    if not task.done():
        return "running"
    return "cancelled" if task.cancelled() else "done"


@app.post("/jobs", status_code=202)
async def start(seconds: float = 1.0) -> Job:
    id = uuid4().hex
    jobs[id] = asyncio.create_task(asyncio.sleep(seconds))
    return Job(id=id, state="running")


@app.get("/jobs/{id}")
async def read(id: str) -> Job:
    if id not in jobs:
        raise HTTPException(404, "There is no such job")
    return Job(id=id, state=state(jobs[id]))


@app.delete("/jobs/{id}")
async def cancel(id: str) -> Job:
    if id not in jobs:
        raise HTTPException(404, "There is no such job")
    jobs[id].cancel()
    await asyncio.wait([jobs[id]])
    return Job(id=id, state=state(jobs[id]))


@app.get("/together")
async def together(seconds: float = 0.2) -> dict[str, list[float]]:
    """Ten waits take as long as one."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(asyncio.sleep(seconds, seconds)) for _ in range(10)]
    return {"waited": [wait.result() for wait in waits]}
