"""What a retriever is: settings (`Retriever`) that learn from a state and give a `Fitted` one, which answers queries.

A *query* is one row of a batch of histories: a user of the table or a live session. An answer lists the best items of
each query (`top`) and scores any (query, item) pair (`score`), so every retriever is also a feature.

A member of the family lies in a module of its own in this package: one class of settings that derives from
`Retriever`, and one fitted class that derives from `Fitted`. Both have defaults for all but the essentials.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.array_checks import ArrayChecks
from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.config import Range
from recsys.retrieval.candidates import max_blocked, remove_blocked
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.index import Index
from recsys.retrieval.index_spec import IndexSpec
from recsys.types import Histories, Hits, State

Arrays = dict[str, NDArray[Any]]
Stored = Mapping[str, NDArray[Any]]

# Settings that many retrievers have, and how far tuning may move them.
Depth = Annotated[int, Field(ge=0), Range(0.5, 2, log=True, relative=True)]
Decay = Annotated[float, Range(0.3, 1)]
Newest = Annotated[int, Range(2, 500, log=True)]


class Answer(Protocol):
    """What a fitted retriever answers to a batch of `U` histories."""

    def top(self, k: int, allowed: ItemFilter | None = None, spare: int = 0) -> Hits:
        """List the best items of each query, best first.

        Args:
            k: How many items the caller needs.
            allowed: The items that a list may hold; None for the whole catalogue.
            spare: How many items to list on top, in place of those that the caller will remove. They are the best that
                the search for `k` came across: an approximate index does not search more widely for them.

        Returns:
            At most `k + spare` items for each query, fewer where the retriever has no evidence for more.
        """

    def score(self, owner: LongArray, item: IntArray) -> FloatArray:
        """Score (query, item) pairs.

        Args:
            owner: The query of each pair `(n,)`, a row of the histories.
            item: The item of each pair `(n,)`.

        Returns:
            The retriever's own score of each pair `(n,)`: finite, higher is better, 0 where there is no evidence.
        """


class Fitted(ABC):
    """A retriever that has learned from a state. Immutable, so threads may share it.

    A subclass writes `ask` and `arrays`; the rest has defaults for a retriever without an index.
    """

    @abstractmethod
    def ask(self, histories: Histories) -> Answer:
        """Prepare the answer to a batch of histories."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """Return what was learned as plain arrays, which a bundle stores and `Retriever.restore` reads."""

    @property
    def index(self) -> Index | None:
        """The index that `top` searches; None for a retriever without one."""
        return None

    @property
    def text_index(self) -> Index | None:
        """The index over the items' text vectors, which an encoded text can be searched in; None without one."""
        return None

    def with_exact_index(self) -> Fitted:
        """Return the same retriever with exact search in place of its index: the oracle of an approximate one."""
        return self

    def strongest_support(self, histories: Histories, owner: LongArray, item: IntArray) -> LongArray:
        """Find the item of the history that speaks most for an item: "because you bought ...".

        Args:
            histories: The histories of `U` queries.
            owner: The query of each pair `(n,)`.
            item: The item of each pair `(n,)`.

        Returns:
            For each pair another item of the query's history `(n,)`, -1 where none speaks for it or the retriever
            cannot say.
        """
        return np.full(len(item), -1, dtype=np.int64)


@dataclass(frozen=True)
class Retriever(ABC):
    """The settings of a retriever, as a config names them. `fit` learns; `restore` rebuilds what was learned.

    A subclass is a frozen dataclass whose fields are its settings. It writes `name`, `fit`, `restore` and `grow`; the
    rest has defaults. One that learns by chance has a field `seed`, which is that of the run unless the config sets it.

    Attributes:
        name: What a config calls this member.
        refit_per_cut: Whether the retriever learns from events. One that learns from the catalogue alone says False:
            its fits at different moments are the same, and a run fits it once for all its cuts.
        depth: How many items to propose to each query; 0 for a retriever that only scores what others propose.
    """

    name: ClassVar[str]
    refit_per_cut: ClassVar[bool] = True
    depth: Depth = 200

    @abstractmethod
    def fit(self, state: State) -> Fitted:
        """Learn from what was known at the state's moment."""

    @abstractmethod
    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        """Rebuild a fitted retriever.

        Args:
            arrays: What `Fitted.arrays` or `grow` gave. They may be read-only.
            vectors: The item vectors `(I, d)`, unit rows.

        Raises:
            ArtifactError: The arrays are damaged.
        """

    @abstractmethod
    def grow(self, arrays: Stored, state: State) -> Stored:
        """Make room for items that were appended to the catalogue and have no interactions yet.

        The scores of old pairs stay, and no two old items are compared again.

        Args:
            arrays: What `Fitted.arrays` gave for the old catalogue.
            state: The catalogue with the new items at its end, and the interactions, which name only old items.

        Returns:
            The arrays for the larger catalogue.
        """

    def carry_over(self, arrays: Stored, old_vectors: FloatArray, state: State, old_row: LongArray) -> Fitted:
        """Bring a published retriever up to date with new tables, without learning anew what is costly to learn.

        By default the retriever is fitted again, which is right for everything that only counts.

        Args:
            arrays: What the bundle stores of the retriever.
            old_vectors: The item vectors of the bundle `(J, d)`.
            state: What is known now, over a catalogue of `I` items.
            old_row: Where each item of the new catalogue was in the bundle `(I,)`, -1 for a new one.

        Raises:
            ArtifactError: The bundle lacks an array that this needs.
        """
        return self.fit(state)

    def check_arrays(self, checks: ArrayChecks) -> None:  # noqa: B027  # nothing to check is a valid answer
        """Check the stored arrays of this retriever before anything is computed with them.

        By default nothing is checked beyond what holds for every array of a bundle: its checksum, and finite values.

        Args:
            checks: The checks, over the arrays of this retriever alone.

        Raises:
            ArtifactError: An array cannot have come from `Fitted.arrays`; the message names it.
        """

    def index_spec(self, state: State) -> IndexSpec | None:
        """Return what `fit` would build as its index, if nothing has to be learned first; None otherwise."""
        return None

    @property
    def needs_user_text(self) -> str | None:
        """The setting that needs encoded behaviour texts, such as `query: 'text'`; None where none does."""
        return None

    @property
    def needs_clock(self) -> bool:
        """Whether the settings count days, so that they mean nothing where only the order of events is known."""
        return False

    @property
    def topic(self) -> str | None:
        """The topic under which explanations group this retriever's evidence (see `recsys.explain.phrases.PUSHES`).

        Features and retrievers of one topic give one reason. None: explanations use the name in the config.
        """
        return None


def top_unblocked(
    answer: Answer, k: int, blocked_pairs: LongArray, n_items: int, allowed: ItemFilter | None = None
) -> Hits:
    """List the best items of each query that are not blocked.

    Args:
        answer: The answer to a batch of histories.
        k: How many items each query needs.
        blocked_pairs: Ascending keys of the (query, item) pairs that no list may hold (see `pair_keys`).
        n_items: Items in the catalogue.
        allowed: The items that a list may hold; None for the whole catalogue.

    Returns:
        `k` items for each query, best first; fewer only where the answer has no more.
    """
    if not len(blocked_pairs):
        return answer.top(min(n_items, k), allowed)
    depth, spare = k, min(max_blocked(blocked_pairs, n_items), k)
    while True:
        hits = answer.top(depth, allowed, spare)
        unblocked = remove_blocked(hits, blocked_pairs, n_items, k)
        listed = depth + spare
        if listed >= n_items or not ((np.diff(unblocked.offsets) < k) & (np.diff(hits.offsets) == listed)).any():
            return unblocked
        depth, spare = 2 * listed, 0


def decayed_events(histories: Histories, decay: float, newest: int) -> tuple[LongArray, FloatArray]:
    """Select the newest events of each query and weight them by recency.

    Args:
        histories: The histories of `U` queries.
        decay: The factor for each step of age. Age counts baskets, not events: what was bought together ages together.
        newest: How many events of each query to keep.

    Returns:
        The rows of those events `(n,)` in the flat arrays of `histories`, and their weights `(n,)`: the event's own
        weight times `decay` to the power of its age.
    """
    place = np.repeat(histories.offsets[1:], histories.lengths) - np.arange(len(histories.item))
    rows = np.flatnonzero(place <= newest)
    return rows, (histories.weight[rows] * np.float64(decay) ** histories.age[rows]).astype(np.float32)
