"""Adding a retriever touches one file: the examples of docs/extending.md, held to the contract of the family."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import retriever_contract as contract
from worlds import asks, lists_of, log_of, shop_state, state_of

from recsys.array_checks import ArrayChecks
from recsys.config import parse_config
from recsys.explain import phrases
from recsys.retrieval.base import Answer, Arrays, Depth, Fitted, Retriever, Stored
from recsys.retrieval.item_to_item import ItemToItem
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.sparse_answer import SparseAnswer
from recsys.types import Histories, State

# recsys/retrieval/confidence.py


@dataclass(frozen=True)
class Confidence(ItemToItem):
    """Of the users who had one item, the share that had the other too (Agrawal, Imieliński and Swami 1993).

    Attributes:
        shrink: Users added to the denominator, so that a share of a few users counts less.
    """

    name: ClassVar[str] = "confidence"
    shrink: float = 5.0

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import similarity

        users = similarity.binary_rows(state.interactions.offsets, state.interactions.item, len(state.catalog))
        both = (users.T @ users).tocsr()
        both.data /= np.repeat(both.diagonal() + self.shrink, np.diff(both.indptr))
        return similarity.keep_top_k(similarity.clear_diagonal(both, first=0), self.neighbours)


# recsys/retrieval/same_brand.py


@dataclass(frozen=True)
class FittedSameBrand(Fitted):
    """The brand of each item `(I,)`, -1 for none, and how often each item was taken `(I,)`."""

    brand: np.ndarray
    count: np.ndarray

    def ask(self, histories: Histories) -> Answer:
        """Score the items of the brand of each query's newest event by how often they were taken."""
        n_items, filled = len(self.brand), np.flatnonzero(histories.lengths)
        last = self.brand[histories.item[histories.offsets[1:][filled] - 1]]
        which, item = np.nonzero((last[:, None] == self.brand) & (last[:, None] >= 0))
        return SparseAnswer.sum_pairs(filled[which], item.astype(np.int32), self.count[item], len(histories), n_items)

    def arrays(self) -> Arrays:
        return {"brand": self.brand, "count": self.count}


@dataclass(frozen=True)
class SameBrand(Retriever):
    """What is taken most of the brand that the user touched last."""

    name: ClassVar[str] = "same_brand"
    depth: Depth = 50

    def fit(self, state: State) -> Fitted:
        count = np.bincount(state.interactions.item, minlength=len(state.catalog))
        return FittedSameBrand(state.catalog.brand_codes, count.astype(np.float32))

    def restore(self, arrays: Stored, vectors: np.ndarray) -> Fitted:
        return FittedSameBrand(arrays["brand"], arrays["count"])

    def grow(self, arrays: Stored, state: State) -> Stored:
        added = len(state.catalog) - len(arrays["count"])
        return {"brand": state.catalog.brand_codes, "count": np.pad(arrays["count"], (0, added))}

    def check_arrays(self, checks: ArrayChecks) -> None:
        checks.shape("brand", np.int32, checks.n_items)
        checks.shape("count", np.float32, checks.n_items)

    @property
    def topic(self) -> str | None:
        return "brand"


# What the tests hold them to


@pytest.mark.parametrize("member", [Confidence, SameBrand])
def test_the_examples_keep_the_contract(member):
    contract.check_settings(member)
    contract.check_lifecycle(member())
    contract.check_ends(member)


def test_confidence_is_the_share_of_users():
    log = log_of([(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 2, 1), (2, 0, 0), (3, 1, 0)])
    answer = Confidence(shrink=0.0, decay=1.0).fit(state_of(log, 3)).ask(asks([[0], [2]]))
    assert answer.score(np.array([0, 0, 1]), np.array([1, 2, 0], np.int32)) == pytest.approx([1 / 3, 1 / 3, 1])


def test_same_brand_lists_the_brand_of_the_newest_event():
    state = shop_state()
    brands = state.catalog.frame["brand"]
    (items,) = lists_of(SameBrand().fit(state).ask(asks([[1, 4]])).top(12))
    assert items
    assert {brands[item] for item in items} == {brands[4]}


def test_explanations_speak_of_a_new_member_by_its_topic():
    topics = {"confidence": Confidence().topic, "near_me": SameBrand().topic}
    assert phrases.why({"scores.near_me": 1.0}, None, topics) == "a brand of the history"
    assert phrases.why({"ranks.confidence": 1.0}, None, topics, follows="Tea") == "often follows Tea"


def test_explanations_speak_of_a_member_without_a_topic_by_its_name(monkeypatch):
    monkeypatch.setattr(Repeat, "topic", Retriever.topic)
    table = {"source": "csv", "path": "table.csv"}
    config = parse_config(
        {
            "name": "shop",
            "data": {"catalog": table, "interactions": table},
            "split": {"kind": "leave_last_out"},
            "retrievers": {"my_way": {"kind": "repeat"}, "popularity": {}},
            "features": ["scores"],
            "scorer": {"kind": "logistic"},
        }
    )
    topics = phrases.retriever_topics(config)
    assert topics == {"my_way": "my way", "popularity": "popular"}
    assert phrases.why({"scores.my_way": 1.0}, None, topics) == "my way"


def test_a_member_that_lacks_a_method_cannot_be_built():
    @dataclass(frozen=True)
    class Unfinished(Retriever):
        name: ClassVar[str] = "unfinished"

        def fit(self, state: State) -> Fitted:
            raise AssertionError

    with pytest.raises(TypeError, match=r"abstract class Unfinished .*grow.*restore"):
        Unfinished()


@pytest.mark.parametrize("lost", ["check_arrays", "brand"])
def test_the_contract_sees_what_a_member_lacks(lost):
    """A member that checks nothing, and one that forgets part of what it learned."""

    @dataclass(frozen=True)
    class Careless(SameBrand):
        def check_arrays(self, checks: ArrayChecks) -> None:
            if lost != "check_arrays":
                super().check_arrays(checks)

        def restore(self, arrays: Stored, vectors: np.ndarray) -> Fitted:
            brand = np.zeros_like(arrays["brand"]) if lost == "brand" else arrays["brand"]
            return FittedSameBrand(brand, arrays["count"])

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        contract.check_lifecycle(Careless())
