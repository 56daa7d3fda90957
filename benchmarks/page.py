"""docs/benchmarks.md: two parts, each written by a command of its own, the other left as it stands."""

from __future__ import annotations

import os
import platform
from pathlib import Path

PAGE = Path("docs/benchmarks.md")
SPEED = "<!-- The part above is written by `make bench-quality`, the part below by `make bench-speed`. -->\n"


def read_parts(page: Path) -> tuple[str, str]:
    """The part on quality and that on speed, as they stand."""
    quality, _, fast = (page.read_text(encoding="utf-8") if page.exists() else "").partition(SPEED)
    return quality, fast


def write_part(page: Path, text: str, *, speed: bool) -> None:
    """Replace one part of the page."""
    quality, fast = read_parts(page)
    quality, fast = (quality, text) if speed else (text, fast)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{quality.rstrip()}\n\n{SPEED}\n{fast.strip()}\n", encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """The sections of a part, by their titles (`## title`); what stands before the first has none: ""."""
    head, *rest = ("\n" + text).split("\n## ")
    return {"": head.strip()} | {one.partition("\n")[0].strip(): "## " + one.strip() for one in rest}


def machine() -> str:
    """Say what this ran on."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {gigabytes:.0f} GB of memory, {platform.system()}"
