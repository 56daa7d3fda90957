"""Gradient boosted trees under LambdaRank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.config import Choice, Range
from recsys.errors import ArtifactError, ConfigError
from recsys.parallel.threads import cores
from recsys.progress import Progress
from recsys.ragged import owners_of
from recsys.ranking.scorers.base import Arrays, check_array, require_packages
from recsys.ranking.scorers.registry import SCORERS
from recsys.ranking.scorers.trees import MAX_LEAVES, Forest

TOP = 10  # length of the list whose ndcg decides how many trees are kept
MAX_TREES = 5000
MAX_WIDTH = 100_000
MAX_COUNT = 10**18
MAX_LIST = 10_000  # rows of a query that LightGBM's LambdaRank takes
END = "end of trees\n"


@dataclass(frozen=True, eq=False)
class TreeScorer:
    """A fitted `GBDT`: LightGBM's text model, and its trees as arrays. LightGBM itself is not needed any more."""

    text: NDArray[np.uint8]
    forest: Forest

    def score(self, x: FloatArray) -> FloatArray:
        return self.forest.score(x)

    @property
    def base_score(self) -> float:
        return self.forest.base_score

    def contributions(self, x: FloatArray) -> NDArray[np.float64]:
        return self.forest.contributions(x)

    def arrays(self) -> Arrays:
        return {"text": self.text}


@SCORERS.register
@dataclass(frozen=True)
class GBDT:
    """Trees under LambdaRank (Burges 2010) by LightGBM (Ke et al. 2017).

    A tenth of the lists is held out: boosting stops when their ndcg@10 has not improved for `patience` trees, at
    `rounds` at the latest, and the best number of trees is kept. A choice that counts more has a greater weight.
    Served in numpy; LightGBM is needed to fit, not to score or to explain.

    Attributes:
        num_leaves: Leaves of a tree, 2 to 64.
        learning_rate: How much each tree adds.
        rounds: Most trees, up to 5000.
        patience: Trees without a better held-out ndcg@10 before boosting stops.
        min_data: Least training rows in a leaf.
        l2: Penalty on the values of leaves.
        negatives: About how many unlabelled candidates of each list to learn from; 0 for all.
    """

    name: ClassVar[str] = "gbdt"
    needs: ClassVar[Mapping[str, str]] = {"lightgbm": "gbdt"}

    num_leaves: Annotated[int, Field(ge=2, le=MAX_LEAVES), Choice((15, 31, 63))] = 31
    learning_rate: Annotated[float, Field(gt=0), Range(0.02, 0.2, log=True)] = 0.05
    rounds: Annotated[int, Field(ge=1, le=MAX_TREES)] = 500
    patience: Annotated[int, Field(ge=1)] = 30
    min_data: Annotated[int, Field(ge=1), Choice((20, 50, 200))] = 50
    l2: Annotated[float, Field(ge=0), Choice((0.0, 10.0))] = 0.0
    negatives: int = 100

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> TreeScorer:
        require_packages(self)
        import lightgbm

        lists, longest = len(offsets) - 1, int(np.diff(offsets).max())
        if longest > MAX_LIST:
            raise ConfigError(
                f"scorer 'gbdt': a list holds {longest} candidates, and LightGBM learns from at most {MAX_LIST}: "
                f"set scorer.negatives (now {self.negatives}) to fewer, such as 100"
            )
        held = np.zeros(lists, dtype=bool)
        held[np.random.default_rng(seed).permutation(lists)[: max(1, lists // 10) if lists > 1 else 0]] = True

        def data_of(chosen: BoolArray, reference: Any = None) -> Any:
            rows = chosen[owners_of(offsets)]
            weight = np.where(y > 0, y, 1)[rows]
            return lightgbm.Dataset(x[rows], (y[rows] > 0).astype(int), weight=weight, group=np.diff(offsets)[chosen],
                                    reference=reference)  # fmt: skip

        settings = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [TOP],
            "num_leaves": self.num_leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_data,
            "lambda_l2": self.l2,
            "feature_fraction": 0.8,
            "seed": seed,
            "num_threads": cores(),
            "deterministic": True,
            "force_row_wise": True,  # else LightGBM measures which way is faster, and the sums differ
            "verbosity": -1,
        }
        callbacks = [partial(_report, progress=progress)]
        learn = data_of(~held)
        judge = [data_of(held, learn)] if held.any() else []
        if judge:
            callbacks.append(lightgbm.early_stopping(self.patience, verbose=False))
        booster = lightgbm.train(settings, learn, self.rounds, judge, callbacks=callbacks)
        progress("scorer", self.rounds, self.rounds)
        # What follows the trees are the settings, the number of this machine's threads among them.
        text: str = booster.model_to_string().partition(END)[0] + END
        return self.restore({"text": np.frombuffer(text.encode(), dtype=np.uint8)})

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        check_array(arrays, "text", np.uint8, None)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> TreeScorer:
        text = arrays["text"]
        return TreeScorer(text, parse(text.tobytes().decode("utf-8", "replace")))


def _report(env: Any, progress: Progress) -> None:
    progress("scorer", env.iteration + 1, env.end_iteration)


def parse(text: str) -> Forest:
    """Read the trees of LightGBM's text model (version 4).

    Our own reader, since the library's is C++ that trusts what it reads. It takes what `GBDT.fit` makes and nothing
    else: one tree an iteration, numeric splits, no missing values, at most 64 leaves a tree.

    Raises:
        ArtifactError: The text is something else; the message names the tree and the key.
    """
    head, *blocks = text.removesuffix(END).split("\nTree=")
    header = _Section("the header", head)
    for key, wanted in (("version", "v4"), ("num_class", "1"), ("num_tree_per_iteration", "1")):
        header.must(header[key] == wanted, f"{key} is {header[key][:20]!r}, and should be {wanted!r}")
    header.must("average_output" not in head.split("\n"), "it averages its trees, and should sum them")
    width = header.integer("max_feature_idx", 0, MAX_WIDTH - 1) + 1
    header.must(text.endswith(END), f"the text does not end with {END.strip()!r}")
    header.must(0 < len(blocks) <= MAX_TREES, f"it holds {len(blocks)} trees, and should hold 1 to {MAX_TREES}")
    return _Trees(blocks).forest(width)


class _Section:
    """Lines `key=value` of a text model."""

    def __init__(self, place: str, lines: str) -> None:
        self.place = place
        self._values = dict(line.partition("=")[::2] for line in lines.split("\n"))

    def must(self, holds: object, problem: str) -> None:
        if not holds:
            raise ArtifactError(f"scorer/text is no model of a 'gbdt' scorer: {self.place}: {problem}")

    def __getitem__(self, key: str) -> str:
        self.must(key in self._values, f"{key} is missing")
        return self._values[key]

    def integer(self, key: str, low: int, high: int) -> int:
        value = self[key]
        fits = value.isdecimal() and len(value) < 10 and low <= int(value) <= high
        self.must(fits, f"{key} is {value[:20]!r}, and should be {low} to {high}")
        return int(value)


class _Trees:
    """The trees of a text model, all of one key at a time."""

    def __init__(self, blocks: Sequence[str]) -> None:
        self._sections = [_Section(f"tree {number}", block) for number, block in enumerate(blocks)]
        for key in ("num_cat", "is_linear"):
            for section in self._sections:
                section.must(section[key] == "0", f"{key} is {section[key][:20]!r}, and should be '0'")
        self._leaves = np.array([section.integer("num_leaves", 1, MAX_LEAVES) for section in self._sections])

    def forest(self, width: int) -> Forest:
        """Check that the numbers are trees over `width` features, and return these."""
        feature = self._integers("split_feature", False, 0, width - 1)
        threshold = self._numbers("threshold", False)
        kind = self._integers("decision_type", False, 0, 255)
        self._must((kind == 0) | (kind == 2), "decision_type", kind, "should be 0 or 2 (numeric, nothing missing)")
        most = int(self._leaves.max())
        left, right = (self._integers(key, False, -most, most - 2) for key in ("left_child", "right_child"))
        self._check_children(left, right)
        node_count = self._integers("internal_count", False, 1, MAX_COUNT)
        leaf_count = self._integers("leaf_count", True, 1, MAX_COUNT)
        return Forest(width, self._leaves - 1, feature, threshold, left, right, node_count, leaf_count,
                      self._numbers("leaf_value", True))  # fmt: skip

    def _numbers(self, key: str, of_leaves: bool) -> NDArray[np.float64]:
        """One finite number for each inner node `(T, M)`, or each leaf `(T, M + 1)`; 0 in the padding."""
        counts = self._leaves if of_leaves else self._leaves - 1
        values = np.zeros((len(counts), int(counts.max())))
        for row, section, count in zip(values, self._sections, counts.tolist(), strict=True):
            words = section[key].split() if count else []
            section.must(len(words) == count, f"{key} holds {len(words)} numbers, and should hold {count}")
            try:
                row[:count] = list(map(float, words))
            except ValueError as error:
                section.must(False, f"{key}: {str(error)[:60]}")
        self._must(np.isfinite(values), key, values, "should be a finite number")
        return values

    def _integers(self, key: str, of_leaves: bool, low: int, high: int) -> LongArray:
        """As `_numbers`, whole and from `low` to `high`; the padding holds the number from there nearest to 0."""
        values = self._numbers(key, of_leaves)
        used = np.arange(values.shape[1]) < (self._leaves if of_leaves else self._leaves - 1)[:, None]
        values = np.where(used, values, max(low, 0))
        fits = (values == np.floor(values)) & (low <= values) & (values <= high)
        self._must(fits, key, values, f"should be a whole number from {low:g} to {high:g}")
        return values.astype(np.int64)

    def _check_children(self, left: LongArray, right: LongArray) -> None:
        """Each node but the root, and each leaf, has one parent, whose number is less than a node's own."""
        for section, leaves, *children in zip(self._sections, self._leaves.tolist(), left, right, strict=True):
            ours = np.stack(children)[:, : leaves - 1]
            wanted = [*range(-leaves, 0), *range(1, leaves - 1)] if leaves > 1 else []
            section.must(sorted(ours.ravel().tolist()) == wanted,
                         "left_child and right_child do not lead once to each node and leaf")  # fmt: skip
            section.must(((ours < 0) | (ours > np.arange(leaves - 1))).all(),
                         "left_child or right_child leads back to a node before")  # fmt: skip

    def _must(self, fits: BoolArray, key: str, values: NDArray[Any], problem: str) -> None:
        if not fits.all():
            tree, place = np.argwhere(~fits)[0]
            self._sections[tree].must(False, f"{key} holds {values[tree, place]:g}, and {problem}")
