"""The reliability plot, as SVG by hand: one figure needs no plotting library."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from html import escape
from typing import Any

SIDE, LEFT, TOP = 400, 70, 60
SERIES = (("quality", "#1f77b4", "newest training cut, users held out"), ("later", "#d62728", "what followed the cut"))


def reliability(measured: Mapping[str, Any]) -> str:
    """Draw the bins of a manifest's `probability`: predicted against observed, on log scales; the diagonal is right.

    A bin without any label lies on the lower edge, hollow.
    """
    series = [(measured[key]["bins"], colour, label) for key, colour, label in SERIES if key in measured]
    positive = [v for bins, _, _ in series for b in bins for v in (b["mean"], b["observed"]) if v > 0]
    low = math.floor(math.log10(max(min(positive), 1e-6)))

    def x(value: float) -> float:
        return LEFT + SIDE * (1 - math.log10(max(value, 10**low)) / low)

    def y(value: float) -> float:
        return TOP + SIDE * math.log10(max(value, 10**low)) / low

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + SIDE + 30}" height="{TOP + SIDE + 70}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<path d="M{x(0)} {y(0)}H{x(1)}V{y(1)}H{x(0)}Z" fill="none" stroke="black"/>',
        f'<path d="M{x(0)} {y(0)}L{x(1)} {y(1)}" stroke="grey" stroke-dasharray="4"/>',
        f'<text x="{LEFT + SIDE / 2}" y="{TOP + SIDE + 40}" text-anchor="middle">measured</text>',
        f'<text transform="translate(16 {TOP + SIDE / 2}) rotate(-90)" text-anchor="middle">observed</text>',
    ]
    for line, text in enumerate(textwrap.wrap(f"Probability that {measured['statement']}", 70)):
        parts.append(f'<text x="16" y="{20 + 16 * line}">{escape(text)}</text>')
    for power in range(low, 1):
        value = f"{10.0 ** (power + 2):g}%"
        parts += [
            f'<text x="{x(10**power):.1f}" y="{TOP + SIDE + 18}" text-anchor="middle">{value}</text>',
            f'<text x="{LEFT - 6}" y="{y(10**power) + 4:.1f}" text-anchor="end">{value}</text>',
        ]
    for number, (bins, colour, label) in enumerate(series):
        parts.append(f'<text x="{LEFT + 10}" y="{TOP + 20 + 16 * number}" fill="{colour}">● {label}</text>')
        parts += [
            f'<circle cx="{x(b["mean"]):.1f}" cy="{y(b["observed"]):.1f}" r="4" stroke="{colour}" '
            f'fill="{colour if b["observed"] else "none"}"><title>measured {b["mean"]:.4g}, observed '
            f"{b['observed']:.4g} of {b['count']:,}</title></circle>"
            for b in bins
        ]
    return "\n".join([*parts, "</svg>\n"])
