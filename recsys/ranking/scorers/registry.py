"""The scorers that a config can name."""

from __future__ import annotations

from recsys.ranking.scorers.base import Scorer
from recsys.ranking.scorers.gbdt import GBDT
from recsys.ranking.scorers.logistic import Logistic
from recsys.ranking.scorers.mlp import MLP

SCORERS: dict[str, type[Scorer]] = {member.name: member for member in (Logistic, MLP, GBDT)}
