"""Item-to-item statistics of the logs: sparse matrices `(I, I)`, `[i, j]` being how much item i speaks for item j.

All of them are counted with sparse products over baskets (one user, one moment), never pair by pair.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np

from recsys.arrays import BoolArray, FloatArray, IntArray, LongArray, Rows
from recsys.embedding.texts import item_texts
from recsys.errors import ConfigError
from recsys.extras import require
from recsys.parallel.threads import in_threads
from recsys.ragged import offsets_of, owners_of, places_of
from recsys.retrieval.index import Index
from recsys.types import Catalog, Interactions

try:
    from scipy import sparse
except ModuleNotFoundError:
    require("train", "counting which items go together", "scipy")
    raise

_BLOCK = 1024  # rows of a matrix that are made at a time, at most
_WORK = 1 << 20  # numbers that these rows are made of, about
_EXACT = 100_000  # items up to which each text is compared with all
_DENSE = 32  # a product of matrices in which one number in so many is not 0 is faster dense
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"


def basket_matrix(events: Interactions, n_items: int) -> tuple[sparse.csr_matrix, IntArray]:
    """Return every basket as a row of a 0/1 matrix `(baskets, I)`, in time order within a user, and its user."""
    changed = np.ones(len(events), dtype=bool)
    changed[1:] = (events.time[1:] != events.time[:-1]) | (events.user[1:] != events.user[:-1])
    first = np.flatnonzero(changed)
    return _ones(np.append(first, len(events)), events.item, n_items), events.user[first]


def _ones(offsets: LongArray, item: IntArray, n_items: int) -> sparse.csr_matrix:
    """Turn ragged lists of items into the rows of a 0/1 matrix."""
    ones = np.ones(len(item), np.float32)
    matrix = sparse.csr_matrix((ones, item.copy(), offsets), shape=(len(offsets) - 1, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def strongest(matrix: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """Keep the `k` greatest positive values of each row; of equals at the edge those that come first."""
    row = owners_of(matrix.indptr)
    kept = matrix.data > 0
    many = np.bincount(row[kept], minlength=matrix.shape[0]) > k
    if many.any():
        some = np.flatnonzero(kept & many[row])
        # Positive floats sort as their bits do, so row and value make one key; plain sorting is fast where ranking is
        # not. Only what ties with a row's k-th value has to be counted.
        bits = matrix.data[some].view(np.uint32)
        order = np.sort((row[some].astype(np.uint64) << np.uint64(32)) | bits)
        ends = np.cumsum(np.bincount(row[some], minlength=matrix.shape[0]))
        edge = np.zeros(matrix.shape[0], dtype=np.uint32)
        edge[many] = order[ends[many] - k].astype(np.uint32)
        equal = some[bits == edge[row[some]]]
        above = np.bincount(row[some][bits > edge[row[some]]], minlength=matrix.shape[0])
        place = places_of(offsets_of(np.bincount(row[equal], minlength=matrix.shape[0])))
        kept[some] = bits >= edge[row[some]]
        kept[equal[place >= k - above[row[equal]]]] = False
    offsets = offsets_of(np.bincount(row[kept], minlength=matrix.shape[0]))
    top = sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], offsets), shape=matrix.shape)
    top.sort_indices()
    return top


def _by_blocks(work: Rows, block: Callable[[slice], sparse.csr_matrix], keep: int, first: int = 0) -> sparse.csr_matrix:
    """Build a matrix `(I, I)` some rows at a time, keeping `keep` values of each: the whole never stands in memory.

    `work` `(I,)` is how many numbers each row is made of: popular items stand in smaller blocks. Rows before `first`
    stay empty.
    """
    n_items = len(work)
    share = np.cumsum(np.maximum(work[first:], _WORK // _BLOCK), dtype=np.int64) // _WORK
    starts = first + np.flatnonzero(np.diff(share, prepend=-1))
    slices = [slice(int(start), int(end)) for start, end in itertools.pairwise([*starts, n_items])]
    parts = list(in_threads(lambda rows: strongest(block(rows), keep), slices))
    return sparse.vstack([sparse.csr_matrix((first, n_items)), *parts], format="csr").astype(np.float32)


def _without_self(block: sparse.csr_matrix, first: int) -> sparse.csr_matrix:
    """Take out what the rows from `first` on say for their own item."""
    own = block.indices == owners_of(block.indptr) + first
    block.data[own] = 0
    return block


def covisitation(events: Interactions, n_items: int, window: int, backward: float, keep: int) -> sparse.csr_matrix:
    """Count which items follow which within `window` baskets, over the root of both items' counts + 1.

    A pair at distance g adds 1/g forward and `backward`/g back; a pair in one basket adds 1 both ways. The `keep`
    strongest of each row are kept.
    """
    baskets, user = basket_matrix(events, n_items)
    count = np.bincount(baskets.indices, minlength=n_items)
    scale = (1 / np.sqrt(count + 1)).astype(np.float32)
    baskets.data *= scale[baskets.indices]
    holders = baskets.T.tocsr()
    starts = offsets_of(np.bincount(user, minlength=events.n_users))
    ahead = np.arange(1, window + 1)
    gaps = np.concatenate([[0], ahead, -ahead] if backward else [[0], ahead]).astype(np.int32)
    worth = np.concatenate([[1], 1 / ahead, backward / ahead])[: len(gaps)].astype(np.float32)

    def block(rows: slice) -> sparse.csr_matrix:
        """Spread each item's baskets over the ones around them, all gaps at once, and see what those hold."""
        own = holders[rows]
        near, same = _near(own.indices, gaps, user, starts)
        ends = offsets_of(same.sum(axis=1))[own.indptr]
        around = sparse.csr_matrix(((own.data[:, None] * worth)[same], near[same], ends), shape=own.shape)
        return _without_self(around @ baskets, rows.start)

    return _by_blocks(count * len(gaps), block, keep)


def _near(basket: Rows, gaps: Rows, user: IntArray, starts: LongArray) -> tuple[Rows, BoolArray]:
    """Return the baskets at some gaps from each basket `(n, g)`, and which of them are its user's.

    `user` is that of every basket, `starts` the ragged offsets of the users' baskets.
    """
    near = basket[:, None] + gaps
    whose = user[basket]
    return near, (near >= starts[whose, None]) & (near < starts[whose + 1, None])


def text_neighbours(vectors: FloatArray, keep: int, sharpness: float, least: float) -> sparse.csr_matrix:
    """Weigh each item's `keep` nearest by text, itself among them: exp(`sharpness` (cosine - 1)), 0 below `least`.

    Above `_EXACT` items, where comparing all with all would take most of a training, a few neighbours may be missed.
    """
    n_items = len(vectors)
    index = Index.build(vectors) if n_items <= _EXACT else Index.build(vectors, "IVF1024,Flat", "nprobe=64")
    rows, near = index.search(vectors, min(keep + 1, n_items))
    weight = np.where(near >= least, np.exp(sharpness * (near - 1)), 0)
    owner = np.repeat(np.arange(n_items), rows.shape[1])
    matrix = sparse.csr_matrix(
        (weight.ravel(), (owner, np.maximum(rows.ravel(), 0))), shape=(n_items, n_items), dtype=np.float32
    )
    matrix.eliminate_zeros()
    return matrix


def between(spread: sparse.csr_matrix, counts: sparse.csr_matrix, keep: int) -> sparse.csr_matrix:
    """Spread counts to the neighbours of both items: `spread counts spread'`, `keep` a row, no item to itself."""
    onward = spread.T.tocsr()
    work = spread @ np.diff(counts.indptr)

    def block(rows: slice) -> sparse.csr_matrix:
        return _without_self(spread[rows] @ counts @ onward, rows.start)

    return _by_blocks(work, block, keep)


def shared_words(catalog: Catalog, most_items: int, keep: int, first: int = 0) -> sparse.csr_matrix:
    """Cosine between the TF-IDF vectors (Salton and Buckley 1988, sublinear counts) of title and brand.

    Only the items from row `first` on are compared with all; the rows of those before stay empty.
    Words are runs of letters and digits; Chinese, Japanese and Korean text, which sets no spaces, counts by pairs of
    neighbouring characters.
    """
    require("train", "the retriever shared_words", "sklearn")
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = item_texts(catalog, ["title", "brand"])
    n_items = len(texts)
    vectorizer = TfidfVectorizer(analyzer=_words, sublinear_tf=True, max_df=most_items, dtype=np.float32)
    try:
        words = vectorizer.fit_transform(texts).tocsr()
    except ValueError:  # no word is left
        return sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    turned = words.T.tocsr()
    work = (words > 0) @ np.diff(turned.indptr)

    def block(rows: slice) -> sparse.csr_matrix:
        return _without_self(words[rows] @ turned, rows.start)

    return _by_blocks(work, block, keep, first)


def _words(text: str) -> list[str]:
    words: list[str] = []
    for run in re.findall(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+", text.lower()):
        unspaced = re.match(f"[{_UNSPACED}]", run) and len(run) > 1
        words += [run[place : place + 2] for place in range(len(run) - 1)] if unspaced else [run]
    return words


def cosine(events: Interactions, n_items: int, shrink: float, keep: int) -> sparse.csr_matrix:
    """Cosine between the user sets of two items, `shrink` added to the denominator (Sarwar et al. 2001)."""
    users = _ones(events.offsets, events.item, n_items)
    norm = np.sqrt(np.bincount(users.indices, minlength=n_items)).astype(np.float32)
    items = users.T.tocsr()

    def block(rows: slice) -> sparse.csr_matrix:
        overlap = (items[rows] @ users).tocsr()
        overlap.data /= norm[rows][owners_of(overlap.indptr)] * norm[overlap.indices] + shrink
        return overlap

    return _by_blocks(items @ np.diff(users.indptr), block, keep)


def ease(events: Interactions, n_items: int, penalty: float, max_items: int, keep: int) -> sparse.csr_matrix:
    """Solve the linear autoencoder without self-weights (EASE, Steck 2019) over the `max_items` most frequent items."""
    chosen = frequent(events, n_items, max_items)
    users = _ones(events.offsets, events.item, n_items)[:, chosen]
    inverse = _inverse((users.T @ users).toarray(), penalty)
    weights: FloatArray = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return _spread(weights, chosen, n_items, keep)


def transitions(events: Interactions, n_items: int, penalty: float, max_items: int,
                decay: float, ahead: int, span: int, keep: int) -> sparse.csr_matrix:  # fmt: skip
    """Solve the ridge regression from a decayed history to what came next.

    This is the transition half (SLIT) of SLIST (Choi et al. 2021, "Session-aware Linear Item-Item Models for
    Session-based Recommendation"): at each basket, the `span` newest ones, decayed, predict the `ahead` next ones.
    """
    chosen = frequent(events, n_items, max_items)
    baskets, user = basket_matrix(events, n_items)
    baskets = baskets[:, chosen]
    starts = offsets_of(np.bincount(user, minlength=events.n_users))

    def summed(basket: LongArray, gaps: LongArray, worth: FloatArray) -> sparse.csr_matrix:
        """Add up, for each basket, those at some gaps from it: `(n, chosen)`."""
        near, same = _near(basket, gaps, user, starts)
        parts = (np.broadcast_to(worth, near.shape)[same], near[same], offsets_of(same.sum(axis=1)))
        return sparse.csr_matrix(parts, shape=(len(near), len(user))) @ baskets

    back, forward = np.arange(span), np.arange(1, ahead + 1)
    past, coming = (decay**back).astype(np.float32), (0.7 ** (forward - 1)).astype(np.float32)
    gram = np.zeros((len(chosen), len(chosen)), dtype=np.float32)
    cross = sparse.csr_matrix(gram.shape, dtype=np.float32)
    for start in range(0, len(user), _WORK):  # the histories at all baskets at once would be many times the log
        some = np.arange(start, min(start + _WORK, len(user)))
        source = summed(some, -back, past)
        gram += (source.T @ source).toarray()
        cross += summed(some, forward, coming).T @ source
    # The transpose of (target' source) inverse is the solution: while what follows what is sparse, that is far cheaper
    # than a dense solve.
    few = cross.nnz < gram.size / _DENSE
    return _spread(((cross.tocsr() if few else cross.toarray()) @ _inverse(gram, penalty)).T, chosen, n_items, keep)


def frequent(events: Interactions, n_items: int, most: int) -> LongArray:
    """Return the `most` most frequent items that have any event, ascending."""
    count = np.bincount(events.item, minlength=n_items)
    return np.sort(np.argsort(-count, kind="stable")[: min(most, int((count > 0).sum()))])


def _inverse(gram: FloatArray, penalty: float) -> FloatArray:
    """Invert a symmetric matrix with `penalty` added to its diagonal, in place where possible, by Cholesky."""
    from scipy.linalg import lapack  # serving never needs it, and it takes a tenth of a second to import

    gram = np.asfortranarray(gram, dtype=np.float32)
    gram[np.diag_indices(len(gram))] += penalty
    factor, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
    if failed:
        raise ConfigError(f"penalty {penalty} is too small: the item counts cannot be inverted; try 100")
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    for start in range(0, len(inverse), _BLOCK):  # LAPACK fills one triangle
        rows = slice(start, start + _BLOCK)
        inverse[rows, start:] = np.triu(inverse[start:, rows].T, 1) + np.tril(inverse[rows, start:])
    return inverse


def _spread(weights: FloatArray, chosen: LongArray, n_items: int, keep: int) -> sparse.csr_matrix:
    """Return the `keep` greatest positive weights of each chosen item as a sparse matrix over all items."""
    parts = []
    for start in range(0, len(chosen), _BLOCK):
        block = np.ascontiguousarray(weights[start : start + _BLOCK])
        # Sorting only the values is many times faster than argpartition, and the few ties at the edge may stay.
        edge = np.partition(block, max(len(chosen) - keep, 0), axis=1)[:, max(len(chosen) - keep, 0)]
        row, column = np.nonzero(block >= np.maximum(edge, np.finfo(np.float32).tiny)[:, None])
        place = (chosen[start + row], chosen[column])
        parts.append(sparse.csr_matrix((block[row, column], place), shape=(n_items, n_items), dtype=np.float32))
    return sum(parts, start=sparse.csr_matrix((n_items, n_items), dtype=np.float32))
