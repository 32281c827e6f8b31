"""Writes the tables of README and docs/ that are generated; --check only compares.

A table stands between "<!-- NAME -->" and "<!-- /NAME -->".
"""

import re
import sys
from pathlib import Path

from databridge.flags import FLAGS, TARGET, Flag

ROOT = Path(__file__).resolve().parents[1]
FILES = ("README.md", "docs/cli.md")


def options() -> str:
    """The options of run, dev and config."""
    rows = [
        "| option | variable | directive | default | meaning |",
        "|---|---|---|---|---|",
        f"| `MODULE:APP` | `{TARGET}` | `databridge_app` | what is found | The application |",
        *(_row(flag) for flag in FLAGS),
    ]
    return "\n".join(rows)


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


TABLES = {"options": options}


def generated(text: str) -> str:
    """The text of a file, with its tables as they have to be."""
    for name, table in TABLES.items():
        region = re.compile(f"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text = region.sub(table().replace("\\", r"\\") + "\n", text)
    return text


def main() -> None:
    stale = []
    for name in FILES:
        path = ROOT / name
        text = path.read_text()
        if (new := generated(text)) != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(new)
    if stale and "--check" in sys.argv:
        sys.exit(f"{', '.join(stale)} cannot stay so: run 'make docs'")


if __name__ == "__main__":
    main()
