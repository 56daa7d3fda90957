"""What a client may send. Everything is bounded, so that no request costs much more than another."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MOST_ITEMS = 1_000
MOST_K = 500

Id = Annotated[str, Field(max_length=256)] | int
K = Annotated[int, Field(ge=1, le=MOST_K)]
Ids = Annotated[list[Id], Field(max_length=MOST_ITEMS)]


class Body(BaseModel):
    """Base of every body. Unknown keys are refused: most are typing errors."""

    model_config = ConfigDict(extra="forbid")


class Event(Body):
    """Something the user did since the bundle was made."""

    item_id: Id
    event: Annotated[str, Field(max_length=64)] | None = None
    time: str | None = None

    def to_event(self) -> dict[str, Any]:
        """The event as the library takes it: only the keys that the client sent."""
        return self.model_dump(exclude_none=True)


class Context(Body):
    """What the page is about."""

    text: Annotated[str, Field(min_length=1, max_length=2_000)]


class RecommendBody(Body):
    """A list for a user; each field as in `Recommender.recommend`."""

    user_id: Id
    k: K = 10
    history: Annotated[list[Event], Field(max_length=MOST_ITEMS)] = []
    context: Context | None = None
    exclude: Ids = []
    where: Annotated[str, Field(max_length=2_000)] | None = None
    caps: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(max_length=8)] = {}
    pinned: Annotated[list[Id], Field(max_length=MOST_K)] = []
    boosts: Annotated[dict[str, float], Field(max_length=MOST_ITEMS)] = {}
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0
    explain: bool = False
    strict: bool = False

    def arguments(self) -> dict[str, Any]:
        """Arguments for `Recommender.recommend`: only those that the client set."""
        arguments = self.model_dump(exclude_defaults=True, exclude={"user_id", "k", "history"})
        return arguments | ({"history": [event.to_event() for event in self.history]} if self.history else {})


class RerankBody(RecommendBody):
    """An order for items that the caller already has; `k` of them come back, all of them by default."""

    candidates: Annotated[list[Id], Field(min_length=1, max_length=MOST_ITEMS)]
    k: K | None = None  # type: ignore[assignment]
