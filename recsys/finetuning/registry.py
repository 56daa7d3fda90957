"""The objectives that a config can name. Each registers itself in its own module."""

from __future__ import annotations

from recsys.finetuning.base import Objective
from recsys.registry import Family

OBJECTIVES: Family[type[Objective]] = Family("objective", "recsys.finetuning.objectives", group="recsys.objectives")
