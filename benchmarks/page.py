"""docs/benchmarks.md: two parts, each written by a command of its own, the other left as it stands."""

from __future__ import annotations

import os
import platform
from pathlib import Path

PAGE = Path("docs/benchmarks.md")
SPEED = "<!-- The part above is written by `make bench-quality`, the part below by `make bench-speed`. -->\n"


def write_part(page: Path, text: str, *, speed: bool) -> None:
    """Replace one part of the page."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    quality, _, fast = old.partition(SPEED)
    quality, fast = (quality, text) if speed else (text, fast)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{quality.rstrip()}\n\n{SPEED}\n{fast.strip()}\n", encoding="utf-8")


def machine() -> str:
    """Say what this ran on."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {gigabytes:.0f} GB of memory, {platform.system()}"
