"""What to try next: the settings that most of what is lost hangs on, each with what it can pay at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recsys.config import Config
from recsys.formatting import percent, plural
from recsys.report.sentences import ENGINE, main_k

SHOWN = 3
LEAST = 0.01  # of what users went on to: less is not worth a setting
# In the order in which they are worth trying, and what each looks at.
RETRIEVERS = {
    "covisitation": "what others took next",
    "tower": "whole histories, learned",
    "text_covisitation": "what others took after similar texts",
    "semantic": "texts that mean the same",
    "lexical": "words that are the same",
    "repeat": "what the user had before",
}


@dataclass(frozen=True)
class Advice:
    """One thing to try.

    Attributes:
        setting: The setting or the command.
        why: What was measured.
        at_most: Share of all that users went on to that it can win at most.
        how: What to write or run.
    """

    setting: str
    why: str
    at_most: float
    how: str


def advise(config: Config, path: str, quality: Mapping[str, Any], profile: Mapping[str, Any]) -> list[Advice]:
    """Return the three things most worth trying, the largest possible gain first.

    Args:
        config: The config that was evaluated.
        path: Its file, as the commands name it.
        quality: What `recsys.jobs.evaluate.evaluate` returned.
        profile: What `recsys.jobs.profile.profile` returned.
    """
    found = [*_of_losses(config, path, quality), *_of_data(quality, profile)]
    worth = [one for one in found if one.at_most >= LEAST]
    return sorted(worth, key=lambda one: -one.at_most)[:SHOWN]


def _of_losses(config: Config, path: str, quality: Mapping[str, Any]) -> Iterator[Advice]:
    losses = {stage: loss["share"] for stage, loss in quality["losses"].items()}
    k = main_k(quality)
    ruled = losses["removed by a rule"]
    if config.rules.seen == "drop":
        why = f"{percent(ruled)} of what users went on to they had before, and such items are left out"
        yield Advice("rules.seen", why, ruled, "rules: {seen: keep}, and a retriever `repeat`")
    deeper = losses["cut by depth"]
    why = f"{percent(deeper)} of what users went on to would be a candidate if retrievers looked five times as deep"
    depths = ", ".join(f"{name} {settings.get('depth', '')}".strip() for name, settings in config.retrievers.items())
    yield Advice("retrievers.*.depth", why, deeper, f"double the depths (now {depths})")
    unfound = losses["no retriever finds it"]
    kinds = {settings.get("kind", name) for name, settings in config.retrievers.items()}
    lacking = next((name for name in RETRIEVERS if name not in kinds), None)
    if lacking is not None:
        why = f"no retriever comes near {percent(unfound)} of what users went on to"
        yield Advice("retrievers", why, unfound, f"add `{lacking}` ({RETRIEVERS[lacking]})")
    below = losses[f"ranked below {k}"]
    why = f"{percent(below)} of what users went on to is among the candidates and stands below place {k}"
    yield Advice("features and scorer", why, below, f"recsys train {path} --tune --budget 1h")


def _of_data(quality: Mapping[str, Any], profile: Mapping[str, Any]) -> Iterator[Advice]:
    new = quality["slices"]["items"].get("new", {})
    texts = profile["facts"]["text"]
    if new.get("targets") and texts < 0.9:
        missed = 1 - next(iter(new[ENGINE].values()))
        share = missed * new["targets"] / quality["targets"]
        why = f"only {percent(texts)} of the items have a title or description, and new items are found by their texts"
        yield Advice("texts of items", why, share, "give the catalogue titles and descriptions")
    nobody = quality["slices"]["users"].get("no history", {})
    if nobody.get("users"):
        share = nobody["users"] / quality["users"]
        why = f"{plural(nobody['users'], 'user')} of {quality['users']:,} had no known event and get what is popular"
        yield Advice("sessions", why, share, "pass what visitors look at as `history` of the request")
