"""The rounds: one process a loop and round, asked for the rows in turn."""

import argparse
import json
import re
import select
import subprocess
import sys
from pathlib import Path

from . import network, report, serving  # noqa: F401
from .rows import ROWS
from .worker import LOOPS

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 40.0  # seconds for a portion: what hangs is no answer


class Worker:
    """A loop's process; it is started again when a row has killed it."""

    def __init__(self, loop: str, seconds: float) -> None:
        self.loop = loop
        self.seconds = seconds
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.loop.worker", self.loop, str(self.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            text=True,
        )
        self.lives = self.answer() is not None

    def answer(self) -> dict[str, float] | None:
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], LIMIT)[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, row: str) -> dict[str, float]:
        if not self.lives:
            return {}
        assert self.process.stdin
        self.process.stdin.write(row + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        if answer is None:
            self.restart()
        return answer or {}

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-loop", description="PyLoop beside its peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice", type=float, default=0.2, help="seconds a row takes in a round")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only the rows it matches")
    parser.add_argument("--loops", default=",".join(LOOPS), help="which, with commas")
    parser.add_argument(
        "--results", type=Path, help="writes loop.md and loop.png into this directory"
    )
    options = parser.parse_args()

    rows = [name for name in ROWS if re.search(options.rows, name)]
    loops = options.loops.split(",")
    samples: report.Samples = {row: {loop: [] for loop in loops} for row in rows}

    absent: set[str] = set()
    for number in range(options.rounds):
        workers = {loop: Worker(loop, options.slice) for loop in loops if loop not in absent}
        absent |= {loop for loop, worker in workers.items() if not worker.lives}
        for place, row in enumerate(rows):
            # who comes first changes, as what comes first does in a burst of noise
            turn = loops[(number + place) % len(loops) :] + loops[: (number + place) % len(loops)]
            for loop in turn:
                if loop not in workers:
                    continue
                if ROWS[row].unit == "bytes":
                    # memory that earlier rows have left behind would be used again
                    workers[loop].restart()
                if answer := workers[loop].ask(row):
                    samples[row][loop].append(answer)
        for worker in workers.values():
            worker.stop()
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    for loop in sorted(absent):
        print(f"{loop} is not installed: left out", file=sys.stderr)

    table = report.table(samples, f"{options.rounds} rounds of {options.slice} s a row")
    print(table)
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "loop.md").write_text(table)
        report.plot(samples, options.results / "loop.png")


if __name__ == "__main__":
    main()
