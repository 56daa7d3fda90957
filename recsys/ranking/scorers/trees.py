"""Boosted regression trees as plain arrays: scores and exact Shapley values in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, LongArray
from recsys.ragged import pair_keys

MAX_LEAVES = 64  # bits of a mask
TREES = 128  # trees whose masks stay in a core's cache while rows pass
ROWS = 256
ALL, ONE = ~np.uint64(0), np.uint64(1)
CELLS = 1 << 16  # (row, leaf, feature) cells that `contributions` keeps in a core's cache

Doubles = NDArray[np.float64]
Masks = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Forest:
    """Binary trees whose values are summed: a row goes left at a node where `x[feature] <= threshold`.

    With `T` trees of at most `M` inner nodes, shorter trees padded:

    Attributes:
        width: Number of features of a row.
        nodes: Inner nodes of each tree `(T,)`; a tree has one leaf more.
        feature: Column that each inner node looks at `(T, M)`. Node 0 is the root, and a child's number is greater
            than its parent's.
        threshold: Greatest value that goes left `(T, M)`.
        left, right: Children `(T, M)`: an inner node, or a leaf `n` as `-n - 1`.
        node_count: Training rows that reached each inner node `(T, M)`, at least 1.
        leaf_count: Training rows in each leaf `(T, M + 1)`, at least 1.
        value: What each leaf adds to the score `(T, M + 1)`; 0 in the padding.
    """

    width: int
    nodes: LongArray
    feature: LongArray
    threshold: Doubles
    left: LongArray
    right: LongArray
    node_count: LongArray
    leaf_count: LongArray
    value: Doubles

    def score(self, x: FloatArray) -> FloatArray:
        """Sum the values of the leaves that each row of features `(n, f)` reaches: `(n,)` float32.

        The method is QuickScorer (Lucchese et al. 2015, "QuickScorer: a Fast Algorithm to Rank Documents with Additive
        Ensembles of Regression Trees"): a bit for each leaf, and for each feature a table of the leaves that are still
        possible between two thresholds. Of a tree's leaves exactly one is possible by every feature.

        Raises:
            ValueError: The rows have another number of features than the trees were learned from.
        """
        self._check_width(x)
        score = np.zeros(len(x))
        for block in self._blocks:
            block.add_scores(x, score)
        return score.astype(np.float32)

    def contributions(self, x: FloatArray) -> Doubles:
        """Split the score of each row between its features `(n, f)`: path-dependent TreeSHAP, exact.

        A feature that a coalition lacks sends a row down both branches, in proportion to the training rows that went
        there (Lundberg et al. 2020, "From local explanations to global understanding with explainable AI for trees").
        The Shapley value of one leaf is the integral over t of the product of `t` or `1 - t` weighted factors, one for
        each feature on its path (the multilinear extension, Owen 1972), a polynomial that Gauss-Legendre quadrature
        integrates exactly.

        Returns:
            `(n, f)` float64; a row sums to its score less `base_score`.

        Raises:
            ValueError: The rows have another number of features than the trees were learned from.
        """
        self._check_width(x)
        amounts = np.zeros((len(x), self.width))
        for paths in self._paths:
            paths.add_contributions(x, amounts)
        return amounts

    @property
    def base_score(self) -> float:
        """The mean score of the training rows, as far as each tree's counts tell."""
        return float(sum(paths.value @ paths.share.prod(axis=1) for paths in self._paths))

    def _check_width(self, x: FloatArray) -> None:
        if x.shape[1] != self.width:
            raise ValueError(f"rows of {x.shape[1]} features, and the trees were learned from {self.width}")

    @cached_property
    def _blocks(self) -> list[_Block]:
        return [_Block.of(self, slice(start, start + TREES)) for start in range(0, len(self.nodes), TREES)]

    @cached_property
    def _paths(self) -> list[_Paths]:
        return _Paths.of(self)


@dataclass(frozen=True, eq=False)
class _Block:
    """Masks of some trees: which leaves a value of one feature leaves possible.

    Attributes:
        every: All leaves of each tree `(t,)`.
        columns: For each feature that a node looks at its column, its `c` ascending thresholds, and the leaves that are
            possible for a value above exactly `p` of them `(c + 1, t)`.
        value: What each leaf adds to the score `(t, M + 1)`.
    """

    every: Masks
    columns: list[tuple[int, Doubles, Masks]]
    value: Doubles

    @classmethod
    def of(cls, forest: Forest, trees: slice) -> _Block:
        nodes, feature, threshold = forest.nodes[trees], forest.feature[trees], forest.threshold[trees]
        below_left, below_right = _leaves_below(forest.left[trees], forest.right[trees])
        inner = np.arange(feature.shape[1]) < nodes[:, None]
        columns = []
        for column in np.unique(feature[inner]).tolist():
            tree, node = np.nonzero(inner & (feature == column))
            cuts, place = np.unique(threshold[tree, node], return_inverse=True)
            table = np.full((2, len(cuts) + 1, len(nodes)), ALL)
            np.bitwise_and.at(table[0], (place + 1, tree), ~below_left[tree, node])  # above this cut: to the right
            np.bitwise_and.at(table[1], (place, tree), ~below_right[tree, node])
            np.bitwise_and.accumulate(table[0], out=table[0])
            np.bitwise_and.accumulate(table[1, ::-1], out=table[1, ::-1])
            columns.append((column, cuts, table[0] & table[1]))
        return cls(ALL >> (MAX_LEAVES - 1 - nodes).astype(np.uint64), columns, forest.value[trees])

    def add_scores(self, x: FloatArray, score: Doubles) -> None:
        """Add what these trees give to each row of features `(n, f)` to `score` `(n,)`."""
        places = [np.searchsorted(cuts, x[:, column]) for column, cuts, _ in self.columns]
        first = np.arange(len(self.every)) * self.value.shape[1]
        for start in range(0, len(x), ROWS):
            rows = slice(start, start + ROWS)
            possible = np.tile(self.every, (len(score[rows]), 1))
            for place, (_, _, table) in zip(places, self.columns, strict=True):
                possible &= table[place[rows]]
            score[rows] += self.value.ravel()[first + np.bitwise_count(possible - ONE)].sum(axis=1)


def _leaves_below(left: LongArray, right: LongArray) -> tuple[Masks, Masks]:
    """Masks of the leaves below the left and the right child of each inner node, `(T, M)` each."""
    below = np.zeros((2, *left.shape), dtype=np.uint64)
    trees = np.arange(len(left))
    for node in range(left.shape[1] - 1, -1, -1):
        for side, children in zip(below, (left, right), strict=True):
            child = children[:, node]
            inner = below[:, trees, np.maximum(child, 0)]
            leaf = ONE << np.maximum(-child - 1, 0).astype(np.uint64)
            side[:, node] = np.where(child >= 0, inner[0] | inner[1], leaf)
    return below[0], below[1]


@dataclass(frozen=True, eq=False)
class _Paths:
    """The `L` leaves that bound `D` features each, as boxes.

    Attributes:
        feature: Columns with a bound `(L, D)`.
        low, high: A row passes where `low < x <= high` `(L, D)`.
        share: Part of the training rows that pass, of those that the feature's nodes on the path saw `(L, D)`.
        value: What each leaf adds to the score `(L,)`.
    """

    feature: LongArray
    low: Doubles
    high: Doubles
    share: Doubles
    value: Doubles

    @classmethod
    def of(cls, forest: Forest) -> list[_Paths]:
        """Read the paths from the root to every leaf, in groups of equally many features."""
        parent_of_node, parent_of_leaf = _parents(forest)
        tree, leaf = np.nonzero(np.arange(forest.value.shape[1]) <= forest.nodes[:, None])
        value, n_leaves = forest.value[tree, leaf], len(tree)
        own, node, side = np.arange(n_leaves), *parent_of_leaf[:, tree, leaf]
        count = forest.leaf_count[tree, leaf]
        steps = []
        while len(own := own[node >= 0]):  # from all leaves at once, a node nearer to the root each time
            tree, side, count, node = (part[node >= 0] for part in (tree, side, count, node))
            cut, reached = forest.threshold[tree, node], forest.node_count[tree, node]
            low, high = np.where(side == 1, cut, -np.inf), np.where(side == 0, cut, np.inf)
            steps.append((own, forest.feature[tree, node], low, high, count / reached))
            node, side, count = *parent_of_node[:, tree, node], reached
        if not steps:
            none = np.zeros((n_leaves, 0))
            return [cls(none.astype(np.int64), none, none, none, value)]
        own, feature, low, high, share = (np.concatenate(part) for part in zip(*steps, strict=True))
        keys = pair_keys(own, feature, forest.width)
        order = np.argsort(keys, kind="stable")
        distinct, first = np.unique(keys[order], return_index=True)
        owner, feature = np.divmod(distinct, forest.width)
        low = np.maximum.reduceat(low[order], first)
        high = np.minimum.reduceat(high[order], first)
        share = np.multiply.reduceat(share[order], first)
        depth = np.bincount(owner, minlength=n_leaves)
        groups = []
        for d in np.unique(depth).tolist():
            cells, shape = depth[owner] == d, (-1, d)
            bounds = feature[cells].reshape(shape), low[cells].reshape(shape), high[cells].reshape(shape)
            groups.append(cls(*bounds, share[cells].reshape(shape), value[depth == d]))
        return groups

    def add_contributions(self, x: FloatArray, amounts: Doubles) -> None:
        """Add what these leaves give each feature of each row `(n, f)` to `amounts` `(n, f)`."""
        depth = self.feature.shape[1]
        points, weights = _quadrature(max(1, -(-depth // 2)))
        columns, step = self.feature.ravel(), max(1, CELLS // max(self.feature.size, 1))
        for start in range(0, len(x), step):
            some = x[start : start + step, self.feature]
            passes = (some > self.low) & (some <= self.high)  # (rows, leaves, depth)
            gain = np.zeros(passes.shape)
            for t, w in zip(points, weights, strict=True):
                factor = self.share * (1 - t) + passes * t
                gain += w * factor.prod(axis=2, keepdims=True) / factor
            gain *= (passes - self.share) * self.value[:, None]
            for row, own in enumerate(gain.reshape(len(some), -1), start):
                amounts[row] += np.bincount(columns, own, minlength=amounts.shape[1])


@cache
def _quadrature(points: int) -> tuple[Doubles, Doubles]:
    """Points and weights that integrate polynomials of degree `2 * points - 1` from 0 to 1 exactly."""
    at, weight = np.polynomial.legendre.leggauss(points)
    return (at + 1) / 2, weight / 2


def _parents(forest: Forest) -> tuple[LongArray, LongArray]:
    """The parent of each inner node `(2, T, M)` and of each leaf `(2, T, M + 1)`: its number or -1, and the side."""
    of_node, of_leaf = np.full((2, *forest.left.shape), -1), np.full((2, *forest.value.shape), -1)
    inner = np.arange(forest.left.shape[1]) < forest.nodes[:, None]
    for side, children in enumerate((forest.left, forest.right)):
        for parents, its, place in ((of_node, inner & (children >= 0), children),
                                    (of_leaf, inner & (children < 0), -children - 1)):  # fmt: skip
            tree, node = np.nonzero(its)
            parents[0, tree, place[tree, node]] = node
            parents[1, tree, place[tree, node]] = side
    return of_node, of_leaf
