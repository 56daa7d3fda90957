"""The figures of reports and of `--plot`, drawn by matplotlib: as files, or as SVG in the colours of its page."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.errors import ConfigError
from recsys.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#1b1f24", "#59636e", "#d1d9e0"
ENGINE_COLOUR, OTHER_COLOUR = "#0a66c2", "#9a6324"
SERIES = (ENGINE_COLOUR, OTHER_COLOUR, "#2a7f3f", "#8a3ffc", "#b3261e", "#00797c", "#6e7781")
# A page sets these properties; a file keeps the colours as they are.
VARIABLES = {colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)} | {
    INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)"
}  # fmt: skip
WIDTH = 7.2  # inches, at 72 points: the width of the page's text
LINE = 0.3  # inches for each bar of a bar chart
FORMATS = (".svg", ".png", ".pdf")


def figure(height: float = 3.0) -> tuple[Figure, Axes]:
    """Return an empty figure of the page's width and its axes, `height` inches high."""
    require("report", "drawing a plot", "matplotlib")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        "font.size": 9, "axes.edgecolor": RULE, "axes.labelcolor": MUTED, "xtick.color": MUTED, "ytick.color": INK,
        "text.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9,
        "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
    }  # fmt: skip
    with mpl.rc_context(style):
        drawn = Figure(figsize=(WIDTH, height), layout="constrained")
        return drawn, drawn.subplots()


def bars(values: Mapping[str, float], *, highlight: Sequence[str] = (), axis: str = "",
         intervals: Mapping[str, tuple[float, float]] | None = None, form: str = "{:.3f}") -> Figure:  # fmt: skip
    """Draw one horizontal bar for each value, the first on top, with its number beside it.

    Args:
        values: The values, by label.
        highlight: Labels in the engine's colour.
        axis: What the values are.
        intervals: Lower and upper ends, by label.
        form: How the number beside a bar is written.
    """
    drawn, axes = figure(0.7 + LINE * len(values))
    labels, lengths = list(values), np.array(list(values.values()))
    colours = [ENGINE_COLOUR if label in highlight or not highlight else OTHER_COLOUR for label in labels]
    axes.barh(labels, lengths, color=colours, height=0.62)
    ends = lengths.copy()
    for place, label in enumerate(labels):
        if intervals and label in intervals:
            low, high = intervals[label]
            axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
            ends[place] = max(ends[place], high)
    for place, (end, value) in enumerate(zip(ends, lengths, strict=True)):
        axes.annotate(form.format(value), (end, place), xytext=(4, 0), textcoords="offset points", va="center",
                      color=INK)  # fmt: skip
    axes.set_xlim(0, 1.12 * max(float(ends.max(initial=0)), 1e-9))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(axis)
    return drawn


def groups(labels: Sequence[str], series: Mapping[str, Sequence[float]], *, axis: str = "") -> Figure:
    """Draw a group of horizontal bars for each label, one bar for each of the series."""
    drawn, axes = figure(0.9 + LINE * 0.75 * len(labels) * len(series))
    height = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        places = np.arange(len(labels)) + (number - (len(series) - 1) / 2) * height
        axes.barh(places, values, height=height * 0.9, color=SERIES[number % len(SERIES)], label=name)
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(axis)
    _legend(axes, len(series))
    return drawn


def columns(values: Mapping[str, float], *, axis: str = "", across: str = "") -> Figure:
    """Draw one vertical bar for each value: a histogram over bands."""
    drawn, axes = figure(2.4)
    axes.bar(list(values), list(values.values()), color=ENGINE_COLOUR, width=0.85)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(axis)
    axes.set_xlabel(across)
    axes.tick_params(axis="x", labelrotation=30 if sum(map(len, values)) > 70 else 0)
    return drawn


def lines(across: Sequence[Any], series: Mapping[str, Sequence[float]], *, axis: str = "") -> Figure:
    """Draw one line for each of the series over numbers or ISO dates."""
    drawn, axes = figure(2.8)
    places = np.array(across, dtype="datetime64[D]") if across and isinstance(across[0], str) else np.array(across)
    for number, (name, values) in enumerate(series.items()):
        axes.plot(places, values, color=SERIES[number % len(SERIES)], label=name, linewidth=1.6)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(axis)
    _legend(axes, len(series))
    return drawn


def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, across: str, axis: str) -> Figure:
    """Draw one line for each of the series, each over its own numbers."""
    drawn, axes = figure(2.8)
    for number, (name, (places, values)) in enumerate(series.items()):
        axes.plot(places, values, color=SERIES[number % len(SERIES)], label=name, linewidth=1.6)
    axes.set(xlabel=across, ylabel=axis)
    _legend(axes, len(series))
    return drawn


def stages(shares: Mapping[str, float]) -> Figure:
    """Draw shares that sum to 1 as one bar, with a legend that names their percentages."""
    drawn, axes = figure(1.6)
    left = 0.0
    for colour, (name, share) in zip(SERIES, shares.items(), strict=False):
        axes.barh([0], [share], left=left, color=colour, label=f"{name}: {share:.0%}", height=0.5)
        left += share
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.set_xticks(np.linspace(0, 1, 6), [f"{tick:.0%}" for tick in np.linspace(0, 1, 6)])
    _legend(axes, 3)
    return drawn


def reliability(bins: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw predicted against observed probabilities, on log scales; points on the diagonal are right.

    Args:
        bins: For each of the measurements its bins: `mean` predicted, `observed`, `count`.
    """
    drawn, axes = figure(4.2)
    positive = [
        value for held in bins.values() for one in held for value in (one["mean"], one["observed"]) if value > 0
    ]
    low = 10.0 ** np.floor(np.log10(max(min(positive, default=0.01), 1e-6)))
    axes.plot([low, 1], [low, 1], color=MUTED, linestyle="--", linewidth=1)
    for number, (name, held) in enumerate(bins.items()):
        colour = SERIES[number % len(SERIES)]
        for hollow in (False, True):  # a bin without any label lies on the lower edge, hollow
            chosen = [one for one in held if (one["observed"] <= 0) == hollow]
            axes.scatter([max(one["mean"], low) for one in chosen], [max(one["observed"], low) for one in chosen],
                         s=22, edgecolors=colour, facecolors="none" if hollow else colour,
                         label=None if hollow else name)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1), aspect="equal")
    axes.set(xlabel="predicted probability", ylabel="observed share")
    _legend(axes, 1)
    return drawn


def _legend(axes: Axes, columns: int) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(loc="outside upper left", ncols=min(columns, 3), frameon=False, labelcolor=INK)


def inline(drawn: Figure, title: str) -> str:
    """Return a figure as SVG for a page: it takes the page's colours and font, and says its title to a screen reader.

    Args:
        drawn: The figure.
        title: What it shows, in words.
    """
    import matplotlib as mpl

    target = io.StringIO()
    # The salt keeps the ids of several figures on one page apart, and the same page the same bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}), warnings.catch_warnings():
        # Letters stay letters: what matplotlib's own font lacks, the fonts of the page have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = target.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(width|height)="[\d.]+pt" ?', "", svg, count=2)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    named = f'<svg role="img" aria-label="{html.escape(title)}"'
    return svg.replace("<svg", named, 1).strip()


def check_format(path: Path) -> None:
    """Check that a figure can be drawn here and written to a path.

    Raises:
        ConfigError: matplotlib is missing, or the ending of the path is none of SVG, PNG and PDF.
    """
    require("report", "drawing a plot", "matplotlib")
    if path.suffix.lower() not in FORMATS:
        ending = f"ends in {path.suffix}" if path.suffix else "has no ending"
        raise ConfigError(f"a plot is written as {', '.join(FORMATS)}, and {path} {ending}")


def write(drawn: Figure, path: Path) -> None:
    """Write a figure as a file, on white. Raises as `check_format`."""
    check_format(path)
    import matplotlib as mpl

    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.fonttype": "none"}):  # letters stay letters
        drawn.savefig(path, dpi=150, facecolor="white")
