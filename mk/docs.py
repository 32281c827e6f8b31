"""Writes what is generated in README and docs/; --check only compares.

A table stands between "<!-- NAME -->" and "<!-- /NAME -->", where NAME is one of TABLES, or
a section of README.  A file of examples is the block that follows "<!-- docs/examples/FILE -->".
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from databridge.flags import FLAGS, TARGET, Flag

ROOT = Path(__file__).resolve().parents[1]
REGION = re.compile(r"(<!-- ([A-Za-z ]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
EXAMPLE = re.compile(r"(<!-- (docs/examples/\S+) -->\n```\w*\n).*?(```\n)", re.DOTALL)


def options() -> str:
    """The options of run, dev and config."""
    rows = [
        "| option | variable | directive | default | meaning |",
        "|---|---|---|---|---|",
        f"| `MODULE:APP` | `{TARGET}` | `databridge_app` | what is found | The application |",
        *(_row(flag) for flag in FLAGS),
    ]
    return "\n".join(rows) + "\n"


def _row(flag: Flag) -> str:
    name = f"{flag.name} {flag.metavar}" if flag.metavar else flag.name
    directives = ", ".join(f"`{name}`" for name in flag.directive.split(", "))
    return f"| `{name}` | `{flag.variable}` | {directives} | {_default(flag)} | {flag.meaning} |"


def _default(flag: Flag) -> str:
    match flag.default:
        case None | "" | False:
            return ""
        case tuple(values):
            return f"`{' '.join(values)}`"
    return f"`{flag.default}`"


FIGURES = (
    ("plans", "uvicorn", "databridge", "constant JSON, async", "`async def` that returns a dict"),
    ("plans", "uvicorn", "databridge", "/items/42?q=abc&limit=5", "path and query parameters"),
    ("plans", "uvicorn", "databridge", "body of 3 fields, echoed", "a model as body and answer"),
    ("plans", "uvicorn", "databridge", "def handler", "`def`, in a thread"),
    ("plans", "uvicorn", "databridge", "10 KB of dicts", "10 KB of JSON from dicts"),
    ("crud", "beanie", "sqlite", "get by id", "native CRUD: get, on SQLite"),
    ("crud", "beanie", "sqlite", "list of 20", "native CRUD: a list of 20, on SQLite"),
    ("crud", "beanie", "sqlite", "create", "native CRUD: create, synced to disk, on SQLite"),
)
"""File of bench/results, its peer and we, the request there, and what README calls it."""


def figures() -> str:
    """The rows of bench/results that README begins with."""
    rows = [
        "| request | FastAPI on uvicorn | databridge | less CPU a request |",
        "|---|---|---|---|",
    ]
    for name, peer, ours, request, called in FIGURES:
        found = _results(name)
        rows.append(
            f"| {called} | {found[request, peer][0]}/s | {found[request, ours][0]}/s"
            f" | {found[request, ours][2]} times |"
        )
    return "\n".join(rows) + "\n"


def _results(name: str) -> dict[tuple[str, str], list[str]]:
    """Requests a second, microseconds and factor by request and server."""
    text = (ROOT / f"bench/results/{name}.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {(row[0], row[1]): row[2:5] for row in rows if len(row) >= 5}


TABLES: dict[str, Callable[[], str]] = {"options": options, "figures": figures}


def readme_block(section: str) -> str:
    """The first table or list of a section of README."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^## {section}\n+(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        sys.exit(f"README.md has no section {section!r}")
    block = re.search(r"^(?:\|.*\n)+|^- (?:.+\n)+", found[1], re.MULTILINE)
    assert block is not None, section
    return block[0].replace("](docs/", "](")


def generated(text: str) -> str:
    """The text of a file, with what is generated as it has to be."""

    def region(found: re.Match[str]) -> str:
        name = found[2]
        return found[1] + (TABLES[name]() if name in TABLES else readme_block(name)) + found[3]

    def example(found: re.Match[str]) -> str:
        return found[1] + (ROOT / found[2]).read_text() + found[3]

    return EXAMPLE.sub(example, REGION.sub(region, text))


def main() -> None:
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        if (new := generated(text)) != text:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(new)
    if stale and "--check" in sys.argv:
        sys.exit(f"{', '.join(stale)}: not as generated, run 'make docs'")


if __name__ == "__main__":
    main()
