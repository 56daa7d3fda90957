"""What a service holds: a bundle loaded once, read-only, asked from any thread."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.config import Config, parse_config
from recsys.embedding.encoders import load_encoder
from recsys.embedding.whitening import Whitening
from recsys.engine import bundle
from recsys.engine.bundle import Bundle
from recsys.engine.embeddings import TextSpace
from recsys.engine.persistence import restore
from recsys.engine.training import batches, in_threads
from recsys.errors import ArtifactError, ConfigError, DataError, UnknownIdError
from recsys.ranking.features import Context
from recsys.retrieval.candidates import find_keys
from recsys.serving import requests
from recsys.serving.recommendations import FILLED, Recommendation, Recommendations
from recsys.types import (
    Candidates,
    Catalog,
    FloatArray,
    Histories,
    Id,
    LongArray,
    Ranking,
    owners_of,
    places_of,
)

TRIED, TRIED_K = 3, 10  # users that a bundle is tried out on when it is loaded, and items for each


class Recommender:
    """A loaded bundle. Immutable, so threads may share one object; nothing it does writes to the bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.config: Config = parse_config(bundle.manifest["config"], str(bundle.path))
        self.catalog = Catalog(bundle.tables["catalog"])
        self.user_ids: pl.Series = bundle.tables["users"]["user_id"]
        self._model = restore(self.config, bundle)
        self._proposers = self._model.retrieval.proposers

    @classmethod
    def load(cls, path: str | Path) -> Recommender:
        """Load the current version of a bundle root, or one version by its folder, and try it out on a few users.

        The first request finds everything warm. Raises `ArtifactError` where a file is missing, altered or of another
        schema version, or the parts do not fit together.
        """
        loaded = bundle.load(path)
        try:
            recommender = cls(loaded)
            recommender._try_out()
        except ConfigError as error:
            raise ArtifactError(
                f"this recsys cannot read the config in bundle {loaded.path}; train again: {error}"
            ) from error
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, DataError) as error:
            raise ArtifactError(f"bundle {loaded.path} lacks a part ({error!r}); train again") from error
        return recommender

    def _try_out(self) -> None:
        """Ask for a few users, and for one of whom nothing is known: what is answered must be an answer."""
        few = np.unique(np.linspace(0, len(self.user_ids) - 1, min(TRIED, len(self.user_ids))).astype(np.int64))
        k = min(TRIED_K, len(self.catalog))
        cold = self._model.rank(self._histories(np.array([-1])), k)
        answers = [self.recommend(self.user_ids[int(row)], k) for row in few]
        scores = np.concatenate([cold.score, *([item.score for item in answer.items] for answer in answers)])
        if len(cold.item) != k or not np.isfinite(scores).all():
            raise ArtifactError(
                f"bundle {self._bundle.path} was tried out on {len(few) + 1} users and gave {len(cold.item)} of {k} "
                f"items to one without history, and {int((~np.isfinite(scores)).sum())} of {len(scores)} scores that "
                "are not finite; train again"
            )
        self._sorted_items  # noqa: B018 - cached from here on

    @property
    def version(self) -> str:
        """The model version, unique within the bundle root."""
        return self._bundle.version

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the bundle says of itself: data window, encoder, metrics, files."""
        return self._bundle.manifest

    def recommend(self, user_id: Id, k: int = 10, *, strict: bool = False) -> Recommendations:
        """Return exactly `k` items for one user, best first, as long as the catalogue can give them.

        An unknown user is given what is popular, flagged `fallback`; with `strict` it is an `UnknownIdError`.
        """
        asker, k = requests.identity(user_id), min(requests.count(k), len(self.catalog))
        row = self._find_user(user_id, requests.flag("strict", strict))
        histories = self._histories(np.array([row]))
        context = self._model.retrieval.context(histories)
        x = self._model.featurizer.compute(context)
        ranking = self._model.order(context, self._model.scorer.score(x), k)
        cold = not len(histories.item)
        items = self._explained(context, x, ranking)
        return Recommendations(asker, items, cold, cold, self.version, uuid.uuid4().hex)

    def recommend_batch(self, users: Sequence[Id] | None = None, k: int = 10) -> pl.DataFrame:
        """Return `k` items for each user (all known users by default) as one frame.

        Columns: user_id, item_id, rank (from 1), score (float32), source (retrievers joined by `+`), model_version.
        Raises `UnknownIdError` naming a user that the bundle does not hold.
        """
        k = min(requests.count(k), len(self.catalog))
        rows = np.arange(len(self.user_ids)) if users is None else self._find_users(requests.listed("users", users))
        frames = list(in_threads(lambda some: self.rank_rows(some, k), batches(rows)))
        return pl.concat(frames) if frames else self.rank_rows(rows, k)

    def rank_rows(self, rows: LongArray, k: int) -> pl.DataFrame:
        """Do as `recommend_batch` does for users by their row numbers, in one batch."""
        ranking = self._model.rank(self._histories(rows), k)
        owner = rows[owners_of(ranking.offsets)]
        return pl.DataFrame(
            {
                "user_id": self.user_ids.gather(owner),
                "item_id": self.catalog.ids.gather(ranking.item),
                "rank": (places_of(ranking.offsets) + 1).astype(np.int32),
                "score": ranking.score,
                "source": self._sources(ranking),
            }
        ).with_columns(model_version=pl.lit(self.version))

    def score(self, user_id: Id, item_ids: Sequence[Id], *, strict: bool = False) -> pl.DataFrame:
        """Return the scorer's score of items that the caller already has, in the order given: item_id, score.

        Each item is scored among the user's own candidates, so a score means the same as in `recommend`. Raises
        `UnknownIdError` naming items that the catalogue lacks.
        """
        requests.identity(user_id)
        strict = requests.flag("strict", strict)
        histories = self._histories(np.array([self._find_user(user_id, strict)]))
        wanted = self._find_items(requests.listed("item_ids", item_ids))
        context = self._model.retrieval.context(histories)
        place = find_keys(context.item.astype(np.int64), wanted)
        own, outside = place >= 0, np.unique(wanted[place < 0])
        score = np.empty(len(wanted), dtype=np.float32)
        if own.any():
            score[own] = self._model.score(context)[place[own]]
        for some in batches(outside):
            asked = wanted[~own]
            here = np.isin(asked, some)
            score[np.flatnonzero(~own)[here]] = self._score_outside(context, some)[np.searchsorted(some, asked[here])]
        return pl.DataFrame({"item_id": self.catalog.ids.gather(wanted), "score": score})

    def _score_outside(self, context: Context, items: LongArray) -> FloatArray:
        """Score items `(m,)` that nobody proposed to one user, each as if it alone had joined the candidates.

        Together they would push each other's and the candidates' ranks about, and so their scores.
        """
        own, m = context.candidates, len(items)
        n = len(own.item)
        item = np.concatenate([np.broadcast_to(own.item, (m, n)), items[:, None]], axis=1).astype(np.int32)
        order = np.argsort(item, axis=1)
        found = np.concatenate([own.found, np.full((1, own.found.shape[1]), -1, np.int32)])[order]
        histories = context.histories.select(np.zeros(m, dtype=np.int64))
        candidates = Candidates(np.arange(m + 1) * (n + 1), np.take_along_axis(item, order, axis=1).ravel(),
                                found.reshape(m * (n + 1), -1))  # fmt: skip
        answers = self._model.retrieval.ask(histories)
        score = self._model.score(Context(histories, candidates, answers, context.vectors))
        return score.reshape(m, n + 1)[order == n]

    def similar_items(self, item_id: Id, k: int = 10) -> pl.DataFrame:
        """Return the `k` items whose text vectors lie nearest: item_id, title, score (cosine).

        Raises `UnknownIdError` for an item that the catalogue lacks.
        """
        k, row = requests.count(k), int(self._find_items([item_id])[0])
        return self._nearest(np.asarray(self._model.retrieval.vectors[row]), k, without=row)

    def search(self, text: str, k: int = 10) -> pl.DataFrame:
        """Return the `k` items nearest to a free text: item_id, title, score (cosine).

        The encoder is loaded when first asked. Raises `ArtifactError` where the encoder on this machine is not the
        one that made the bundle's vectors.
        """
        return self._nearest(self._space.encode([requests.words(text)])[0], requests.count(k))

    def history(self, user_id: Id) -> pl.DataFrame:
        """Return what the bundle remembers of a user, newest first: item_id, title, time. Raises `UnknownIdError`."""
        histories = self._histories(np.array([self._find_user(user_id, strict=True)]))
        newest = histories.item[::-1]
        return self._items(newest).with_columns(time=pl.Series(histories.time[::-1]))

    def _items(self, rows: Any) -> pl.DataFrame:
        titles = self.catalog.titles
        named = pl.Series([titles[row] for row in rows], dtype=pl.String)
        return pl.DataFrame({"item_id": self.catalog.ids.gather(rows), "title": named})

    def _nearest(self, query: FloatArray, k: int, without: int | None = None) -> pl.DataFrame:
        score = self._model.retrieval.vectors @ query
        if without is not None:
            score[without] = -np.inf
        k = min(k, len(score) - (without is not None))
        best = np.argpartition(-score, max(k - 1, 0))[:k]
        best = best[np.argsort(-score[best], kind="stable")]
        return self._items(best).with_columns(score=pl.Series(score[best]))

    @cached_property
    def _space(self) -> TextSpace:
        encoder = load_encoder(self.config.embedding)
        wanted = self._bundle.manifest["encoder"]
        if encoder.fingerprint != wanted:
            raise ArtifactError(
                f"the encoder {self.config.embedding.model!r} on this machine has fingerprint "
                f"{encoder.fingerprint[:12]}, the bundle's vectors were made with {wanted[:12]}: they must not mix; "
                "install the model that the bundle was made with, or train again. A fingerprint changes with precision "
                f"too, which is {self.config.embedding.precision!r} here: 'auto' means another on a GPU than on a CPU, "
                "so set embedding.precision to the same value for both"
            )
        whitening = self._bundle.group("whitening")
        return TextSpace(encoder, Whitening.from_arrays(whitening) if whitening else None)

    def _find_user(self, user_id: Id, strict: bool) -> int:
        """Row of a user, -1 for an unknown one."""
        row = int(requests.places(self.user_ids, [user_id])[0])
        if row < 0 and strict:
            raise self._unknown(user_id)
        return row

    def _find_users(self, users: Sequence[Id]) -> LongArray:
        rows = requests.places(self.user_ids, users)
        if (rows < 0).any():
            raise self._unknown(users[int(np.argmin(rows))])
        return rows

    def _unknown(self, user_id: Id) -> UnknownIdError:
        told = requests.shown(user_id)
        near = difflib.get_close_matches(told.strip("'"), [str(u) for u in self.user_ids.head(100_000)], n=3)
        hint = f"; near ones: {', '.join(near)}" if near else ""
        return UnknownIdError(f"user {told} is not among the {len(self.user_ids)} users of this bundle{hint}")

    def _find_items(self, item_ids: Sequence[Id]) -> LongArray:
        ids, order = self._sorted_items
        rows = requests.places(ids, item_ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            told = ", ".join(requests.shown(item_ids[place]) for place in unknown[:10])
            raise UnknownIdError(f"{len(unknown)} of {len(rows)} items are not in the catalogue of {len(ids)}: {told}")
        return order[rows]

    @cached_property
    def _sorted_items(self) -> tuple[pl.Series, LongArray]:
        order = self.catalog.ids.arg_sort()
        return self.catalog.ids.gather(order), order.to_numpy().astype(np.int64)

    def _histories(self, rows: LongArray) -> Histories:
        """What the users of some rows did; row -1 is a user without history."""
        stored = self._stored
        if (rows >= 0).all():
            return stored.select(rows)
        nothing = np.zeros(0, dtype=np.int64)
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        told = stored.text_vectors
        untold = None if told is None else np.zeros((len(rows), told.shape[1]), dtype=np.float32)
        return Histories(rows.astype(np.int32), offsets, nothing.astype(np.int32), nothing, nothing.astype(np.float32),
                         np.full(len(rows), stored.as_of.max(initial=0)), untold)  # fmt: skip

    @cached_property
    def _stored(self) -> Histories:
        parts = self._bundle.group("histories")
        return Histories(np.arange(len(self.user_ids), dtype=np.int32), parts["offsets"], parts["item"], parts["time"],
                         parts["weight"], parts["as_of"], parts.get("text_vectors"))  # fmt: skip

    def _sources(self, ranking: Ranking) -> pl.Series:
        """Name the retrievers that found each item, joined by `+`: made once for each combination, not once a row."""
        power = 1 << np.arange(len(self._proposers))
        code = (ranking.found >= 0) @ power
        distinct, place = np.unique(code, return_inverse=True)
        names = ["+".join(n for n, p in zip(self._proposers, power, strict=True) if c & p) or FILLED for c in distinct]
        return pl.Series(names, dtype=pl.String).gather(place)

    def _explained(self, context: Context, x: FloatArray, ranking: Ranking) -> list[Recommendation]:
        names = self._model.featurizer.names(context)
        place = find_keys(context.item.astype(np.int64), ranking.item.astype(np.int64))
        parts = self._model.scorer.contributions(x[np.maximum(place, 0)]) if len(x) else np.zeros((len(place), 0))
        titles = self.catalog.titles
        nothing = np.zeros(0, dtype=np.int64)
        answer = []
        for rank, (row, found) in enumerate(zip(ranking.item, ranking.found, strict=True)):
            strongest = np.argsort(-np.abs(parts[rank]))[:3] if place[rank] >= 0 else nothing
            answer.append(
                Recommendation(
                    item_id=self.catalog.ids[int(row)],
                    title=titles[int(row)],
                    rank=rank + 1,
                    score=float(ranking.score[rank]),
                    sources={n: int(f) + 1 for n, f in zip(self._proposers, found, strict=True) if f >= 0},
                    reasons={names[j]: float(parts[rank, j]) for j in strongest},
                )
            )
        return answer
