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


TABLES: dict[str, Callable[[], str]] = {"options": options}


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
