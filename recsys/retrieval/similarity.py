"""Tools for item-to-item statistics: sparse matrices `(I, I)`, `[i, j]` being how much item i speaks for item j.

The statistics are counted with sparse products over baskets (one user, one moment), never pair by pair.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from recsys.arrays import BoolArray, FloatArray, IntArray, LongArray, Rows
from recsys.errors import ConfigError
from recsys.extras import require
from recsys.parallel.threads import in_threads
from recsys.ragged import offsets_of, owners_of, places_of
from recsys.types import Interactions

try:
    from scipy import sparse
except ModuleNotFoundError:
    require("train", "counting which items go together", "scipy")
    raise

MAX_BLOCK_ROWS = 1024  # rows of a matrix that are built at a time, at most
BLOCK_WORK = 1 << 20  # numbers that these rows are made of, about


def basket_matrix(events: Interactions, n_items: int) -> tuple[sparse.csr_matrix, IntArray]:
    """Return every basket as a row of a 0/1 matrix `(baskets, I)`, in time order within a user, and its user."""
    changed = np.ones(len(events), dtype=bool)
    changed[1:] = (events.time[1:] != events.time[:-1]) | (events.user[1:] != events.user[:-1])
    first = np.flatnonzero(changed)
    return binary_rows(np.append(first, len(events)), events.item, n_items), events.user[first]


def binary_rows(offsets: LongArray, item: IntArray, n_items: int) -> sparse.csr_matrix:
    """Turn ragged lists of items into the rows of a 0/1 matrix `(U, I)`."""
    ones = np.ones(len(item), np.float32)
    matrix = sparse.csr_matrix((ones, item.copy(), offsets), shape=(len(offsets) - 1, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def keep_top_k(matrix: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """Keep the `k` greatest positive values of each row; of equal values at the edge the first ones."""
    row = owners_of(matrix.indptr)
    kept = matrix.data > 0
    many = np.bincount(row[kept], minlength=matrix.shape[0]) > k
    if many.any():
        cut = np.flatnonzero(kept & many[row])
        # Positive floats sort as their bits do, so row and value make one key; plain sorting is fast where ranking is
        # not. Only what ties with a row's k-th value has to be counted.
        bits = matrix.data[cut].view(np.uint32)
        order = np.sort((row[cut].astype(np.uint64) << np.uint64(32)) | bits)
        ends = np.cumsum(np.bincount(row[cut], minlength=matrix.shape[0]))
        edge = np.zeros(matrix.shape[0], dtype=np.uint32)
        edge[many] = order[ends[many] - k].astype(np.uint32)
        equal = cut[bits == edge[row[cut]]]
        above = np.bincount(row[cut][bits > edge[row[cut]]], minlength=matrix.shape[0])
        place = places_of(offsets_of(np.bincount(row[equal], minlength=matrix.shape[0])))
        kept[cut] = bits >= edge[row[cut]]
        kept[equal[place >= k - above[row[equal]]]] = False
    offsets = offsets_of(np.bincount(row[kept], minlength=matrix.shape[0]))
    top = sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], offsets), shape=matrix.shape)
    top.sort_indices()
    return top


def build_by_blocks(
    work: Rows, block: Callable[[slice], sparse.csr_matrix], keep: int, first: int = 0
) -> sparse.csr_matrix:
    """Build a matrix a few rows at a time, so that the whole never stands in memory; blocks run in threads.

    Args:
        work: How many numbers each row is made of `(I,)`: rows of popular items go into smaller blocks.
        block: Builds some rows of the matrix.
        keep: How many values to keep of each row, the greatest above 0.
        first: Rows before this one stay empty.

    Returns:
        The matrix `(I, I)` float32.
    """
    n_items = len(work)
    share = np.cumsum(np.maximum(work[first:], BLOCK_WORK // MAX_BLOCK_ROWS), dtype=np.int64) // BLOCK_WORK
    starts = first + np.flatnonzero(np.diff(share, prepend=-1))
    slices = [slice(int(start), int(end)) for start, end in itertools.pairwise([*starts, n_items])]
    parts = list(in_threads(lambda rows: keep_top_k(block(rows), keep), slices))
    return sparse.vstack([sparse.csr_matrix((first, n_items)), *parts], format="csr").astype(np.float32)


def clear_diagonal(block: sparse.csr_matrix, first: int) -> sparse.csr_matrix:
    """Set to 0, in place, what each item of a block says of itself; `first` is the item of the block's first row."""
    own = block.indices == owners_of(block.indptr) + first
    block.data[own] = 0
    return block


def baskets_at_gaps(basket: Rows, gaps: Rows, user: IntArray, starts: LongArray) -> tuple[Rows, BoolArray]:
    """Find the baskets at some gaps from each basket.

    Args:
        basket: The baskets `(n,)`.
        gaps: How many baskets later (or, below 0, earlier) `(g,)`.
        user: The user of every basket.
        starts: Ragged offsets of the users' baskets `(U + 1,)`.

    Returns:
        The baskets `(n, g)`, and which of them exist and are of the same user `(n, g)`.
    """
    near = basket[:, None] + gaps
    own = user[basket]
    return near, (near >= starts[own, None]) & (near < starts[own + 1, None])


def most_frequent(events: Interactions, n_items: int, most: int) -> LongArray:
    """Return the `most` most frequent items that have any event, ascending."""
    count = np.bincount(events.item, minlength=n_items)
    return np.sort(np.argsort(-count, kind="stable")[: min(most, int((count > 0).sum()))])


def ridge_inverse(gram: FloatArray, penalty: float) -> FloatArray:
    """Invert a symmetric matrix with `penalty` added to its diagonal, in place where possible, by Cholesky.

    Raises:
        ConfigError: The penalty is too small.
    """
    from scipy.linalg import lapack  # a tenth of a second to import, and only two retrievers need it

    gram = np.asfortranarray(gram, dtype=np.float32)
    gram[np.diag_indices(len(gram))] += penalty
    factor, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
    if failed:
        raise ConfigError(f"penalty {penalty} is too small: the item counts cannot be inverted; try 100")
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    for start in range(0, len(inverse), MAX_BLOCK_ROWS):  # LAPACK fills one triangle
        rows = slice(start, start + MAX_BLOCK_ROWS)
        inverse[rows, start:] = np.triu(inverse[start:, rows].T, 1) + np.tril(inverse[rows, start:])
    return inverse


def top_weights(weights: FloatArray, chosen: LongArray, n_items: int, keep: int) -> sparse.csr_matrix:
    """Keep the greatest positive weights of each item of a dense matrix over some items.

    Args:
        weights: The weights `(c, c)`.
        chosen: The items that they are of `(c,)`.
        n_items: Items in the catalogue.
        keep: How many weights to keep of each row.

    Returns:
        The same over all items `(I, I)` float32.
    """
    parts = []
    for start in range(0, len(chosen), MAX_BLOCK_ROWS):
        block = np.ascontiguousarray(weights[start : start + MAX_BLOCK_ROWS])
        # Sorting only the values is many times faster than argpartition, and the few ties at the edge may stay.
        edge = np.partition(block, max(len(chosen) - keep, 0), axis=1)[:, max(len(chosen) - keep, 0)]
        row, column = np.nonzero(block >= np.maximum(edge, np.finfo(np.float32).tiny)[:, None])
        place = (chosen[start + row], chosen[column])
        parts.append(sparse.csr_matrix((block[row, column], place), shape=(n_items, n_items), dtype=np.float32))
    return sum(parts, start=sparse.csr_matrix((n_items, n_items), dtype=np.float32))
