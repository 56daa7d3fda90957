"""The second part of docs/benchmarks.md, from results; topics measured at several sizes have a plot."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.page import PAGE, machine, read_parts, sections, write_part
from benchmarks.speed.measure import Row
from benchmarks.speed.topic import TOPICS, result_of, topic

HEAD = """# Speed

How fast, compared with what people use now or with what the hardware allows. `make bench-speed` writes this part; here
on {here}, unless a section says otherwise.

Rivals take turns in one process, and figures are medians; `x` is ours over theirs. Memory is the most by which the
process grew. *Wanted* is the goal, set before anything was measured.
"""


def write() -> Path:
    """Write the part from all results; return the page. A topic without any result here keeps its section."""
    before = sections(read_parts(PAGE)[1])
    here = f"{machine()}, {datetime.now(UTC):%Y-%m-%d}"
    kept = {name for name in TOPICS if topic(name).TITLE in before and not _results(name)}
    parts = [before[""] + "\n" if kept else HEAD.format(here=here)]
    for name in TOPICS:
        module, files = topic(name), [result_of(name, case) for case in topic(name).CASES]
        if name in kept:
            parts.append(before[module.TITLE] + "\n")
            continue
        rows = [Row(**row) for file in files if file.exists() for row in json.loads(file.read_text(encoding="utf-8"))]
        parts.append(f"## {module.TITLE}\n\n{module.ABOUT.strip()}\n")
        if kept:
            parts.append(f"Measured on {here}.\n")
        missing = [file.stem for file in files if not file.exists()]
        parts.append(table(rows) if rows else "")
        if missing:
            parts.append(f"Not run here: {', '.join(missing)}.\n")
        plot = PAGE.parent / "plots" / f"speed_{name}.svg"
        if draw(rows, module.TITLE, plot):
            parts.append(f"![{module.TITLE}]({plot.relative_to(PAGE.parent).as_posix()})\n")
    write_part(PAGE, "\n".join(part for part in parts if part), speed=True)
    return PAGE


def _results(name: str) -> list[Path]:
    return [file for case in topic(name).CASES if (file := result_of(name, case)).exists()]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | ours | beside | theirs | x | wanted | MB | theirs MB |",
        "|---|---:|---|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        theirs = "" if row.theirs is None else f"{number(row.theirs)} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        what = f"{row.what}{f' ({row.note})' if row.note else ''}"
        wanted = f"{row.wanted}: {'reached' if row.reached else '**missed**'}" if row.wanted else ""
        memory = ("" if mb is None else f"{mb:,.0f}" for mb in (row.ours_mb, row.theirs_mb))
        lines.append(f"| {what} | {number(row.ours)} {row.unit} | {row.rival} | {theirs} | {ratio} | {wanted} | "
                     f"{' | '.join(memory)} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Format three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def draw(rows: Sequence[Row], title: str, path: Path) -> bool:
    """Draw figures against sizes, both on log scales, one panel a unit; return False if nothing has two sizes."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.size:
            label = row.what.split(",")[0]
            curves[row.unit][label].append((row.size, row.ours))
            if row.theirs is not None:
                curves[row.unit][row.rival].append((row.size, row.theirs))
    wide = {
        unit: {name: sorted(set(points)) for name, points in named.items() if len({x for x, _ in points}) > 1}
        for unit, named in curves.items()
    }
    panels = {unit: named for unit, named in wide.items() if named}
    if not panels:
        return False
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "recsys"  # the same figures make the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(6 * len(panels), 4), squeeze=False)
    for axis, (unit, named) in zip(axes[0], panels.items(), strict=True):
        for name, points in named.items():
            axis.plot(*zip(*points, strict=True), marker="o", label=name)
        axis.set(xscale="log", yscale="log", xlabel="size", ylabel=unit)
        axis.grid(visible=True, which="both", alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(title)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True
