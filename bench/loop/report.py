"""What the rounds say: a table in Markdown and a plot."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import geometric_mean, median

from .rows import ROWS

Samples = dict[str, dict[str, list[dict[str, float]]]]

BASE = "uvloop"


def _median(samples: Samples, row: str, loop: str, kind: str) -> float | None:
    values = [sample[kind] for sample in samples[row].get(loop, []) if kind in sample]
    return median(values) if values else None


def ratio(samples: Samples, row: str, loop: str, kind: str) -> float | None:
    """Above 1 is better than uvloop."""
    own = _median(samples, row, loop, kind)
    base = _median(samples, row, BASE, kind)
    if not own or not base:
        return None
    return own / base if ROWS[row].unit == "op/s" else base / own


def _loops(samples: Samples) -> list[str]:
    """Those with a figure, uvloop not among them."""
    loops = next(iter(samples.values()))
    return [loop for loop in loops if loop != BASE and any(samples[row][loop] for row in samples)]


def _version(loop: str) -> str:
    try:
        return f"{loop} {version(loop)}"
    except PackageNotFoundError:
        return loop


def _figure(samples: Samples, row: str) -> str:
    figure = _median(samples, row, BASE, "wall")
    if figure is None:
        return "no"
    return f"{figure:,.0f} {ROWS[row].unit}"


def _cell(value: float | None) -> str:
    return "no" if value is None else f"{value:.2f}"


def table(samples: Samples, how: str) -> str:
    loops = _loops(samples)
    columns = [(loop, kind) for loop in loops for kind in ("wall", "cpu")]
    lines = [
        "# PyLoop beside its peers",
        "",
        f"{how}; {', '.join(_version(loop) for loop in (BASE, *loops) if loop != 'pyloop')}; "
        f"CPython {platform.python_version()}. Ratios to {BASE}, above 1 is better; "
        "latencies and bytes have no CPU ratio, and `no` is a row that the loop cannot run.",
        "",
        f"| row | {BASE} | " + " | ".join(f"{loop} {kind}" for loop, kind in columns) + " |",
        "| --- " * (len(columns) + 2) + "|",
    ]
    for row in samples:
        cells = [
            ""
            if kind == "cpu" and ROWS[row].unit != "op/s"
            else _cell(ratio(samples, row, *column))
            for column in columns
            for kind in [column[1]]
        ]
        lines.append(f"| {row} | {_figure(samples, row)} | " + " | ".join(cells) + " |")
    means = []
    for column in columns:
        ratios = [value for row in samples if (value := ratio(samples, row, *column))]
        means.append(f"**{geometric_mean(ratios):.2f}**" if ratios else "no")
    lines += [f"| **geometric mean** | | {' | '.join(means)} |", ""]
    return "\n".join(lines)


def plot(samples: Samples, path: Path) -> None:
    """A bar a loop and row, on a logarithmic scale around uvloop's 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    loops = _loops(samples)
    rows = list(samples)
    height = 0.8 / max(len(loops), 1)
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained")
    for place, loop in enumerate(loops):
        ratios = [ratio(samples, row, loop, "wall") or 1.0 for row in rows]
        axes.barh(
            [i + (place + 0.5) * height - 0.4 for i in range(len(rows))],
            [value - 1 for value in ratios],
            height,
            left=1,
            label=loop,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.125, 0.25, 0.5, 1, 2, 4, 8], ["⅛", "¼", "½", "1", "2", "4", "8"])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f"speed beside {BASE}; longer to the right is faster")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
