"""The scorers that a config can name. Each registers itself in its own module."""

from __future__ import annotations

from recsys.ranking.scorers.base import Scorer
from recsys.registry import Family

SCORERS: Family[type[Scorer]] = Family("scorer", "recsys.ranking.scorers", group="recsys.scorers")
