"""The public face of a bundle: loaded once, read-only, safe to call from any thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl

from recsys.arrays import FloatArray, LongArray
from recsys.artifacts import bundle
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.persistence import restore, save_copy
from recsys.config import Config, parse_stored_config
from recsys.errors import ArtifactError, ConfigError, DataError
from recsys.explain.explanation import EXCLUDED, FILTERED, SEEN, Explanation, WhyNot, explanations, why_not
from recsys.parallel.forks import require_polars
from recsys.parallel.threads import one_thread
from recsys.retrieval.variants import Variants
from recsys.serving import requests
from recsys.serving.answering import Request, RequestPipeline
from recsys.serving.batch import BatchRanker
from recsys.serving.conditions import ConditionReader, Conditions, ListConditions, VariantChoice
from recsys.serving.description import describe
from recsys.serving.filters import Filters, Where
from recsys.serving.lookup import EntityLookup
from recsys.serving.nearest_items import nearest_items, titled
from recsys.serving.recommendations import Recommendations, to_recommendations, top_reasons
from recsys.serving.requests import Events, SessionReader
from recsys.serving.scoring import score_items
from recsys.serving.text_query import TextEncoder
from recsys.serving.trial import try_out
from recsys.serving.unknown import Unknown, UnknownItems
from recsys.types import Catalog, Histories, Id

if TYPE_CHECKING:
    from recsys.engine.embeddings import TextSpace


class Recommender:
    """A loaded bundle. Immutable, so threads may share one object; no method but `save` writes anything.

    Pickling stores the path alone, so that a worker process loads the bundle itself.

        recommender = Recommender.load("artifacts/shop")
        for item in recommender.recommend("u383", k=10):
            print(item.rank, item.title)

    Attributes:
        config: The config that the bundle was trained with.
        catalog: The items, with all columns of the catalogue.
        user_ids: The users, in ascending order.
    """

    def __init__(self, bundle: Bundle, space: TextSpace | None = None) -> None:
        self._bundle = bundle
        self.config: Config = parse_stored_config(bundle.manifest["config"], str(bundle.path))
        self.catalog = Catalog(bundle.tables["catalog"])
        self._model = restore(self.config, bundle)  # refuses parts that do not fit together
        data = self.config.data
        reader = SessionReader(data.interactions.events, data.clock == "order", data.timezone)
        self._lookup = EntityLookup(bundle, reader)
        self.user_ids = self._lookup.user_ids
        self._variants = self._model.retrieval.variants
        filters = Filters(self.catalog, self._model.retrieval.popular)
        self._reader = ConditionReader(self._lookup, filters, self._variants, self.config.rules.variants == "one")
        self._encoder = TextEncoder(self.config, bundle, space)
        self._pipeline = RequestPipeline(self._model, self._lookup, self._reader, self._encoder)
        self._batch = BatchRanker(self._model, self._lookup, self._reader, self.catalog, self.version)

    @classmethod
    def load(cls, path: str | Path) -> Recommender:
        """Load a bundle and try it on a few users, so that the first request finds everything warm.

        Args:
            path: A bundle root, whose current version is loaded, or the folder of one version.

        Raises:
            ArtifactError: A file is missing, altered or of another schema version, or the parts do not fit together.
        """
        loaded = bundle.load(path)
        try:
            recommender = cls(loaded)
            try_out(loaded.path, recommender._model, recommender._lookup, recommender.recommend)
        except ConfigError as error:
            raise ArtifactError(
                f"this recsys cannot read the config in bundle {loaded.path}; train again: {error}"
            ) from error
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, DataError) as error:
            raise ArtifactError(f"bundle {loaded.path} lacks a part ({error!r}); train again") from error
        return recommender

    def save(self, path: str | Path) -> Path:
        """Publish this recommender as a new version of a bundle, and make that the current one.

        Added items (`add_items`) are saved too. The version is written whole or not at all: every file with its
        checksum, then the manifest, then the pointer. This recommender stays as it is.

        Args:
            path: The bundle root, such as `artifacts/shop`; created where it is missing. Earlier versions there stay.

        Returns:
            The folder of the new version; `Recommender.load` takes it, or `path`.

        Raises:
            ArtifactError: The disk cannot be written, or another process is writing there.
        """
        return save_copy(Path(path), self._bundle)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._bundle.on_disk:
            raise ArtifactError(
                f"version {self.version} holds added items in memory, and only a bundle on disk can be pickled: save "
                "it with `save(path)`, load that, and pickle what was loaded"
            )
        return Recommender.load, (self._bundle.path.absolute(),)

    def __repr__(self) -> str:
        return describe(self.config, self.manifest, self.version, len(self.user_ids), len(self.catalog))

    @property
    def version(self) -> str:
        """The name of the version, unique within the bundle root; with `+` where items were added in memory."""
        return self._bundle.version

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest of the bundle: data window, encoder, metrics, files."""
        return self._bundle.manifest

    @property
    def text_space(self) -> TextSpace:
        """The encoder that made the bundle's vectors, and their whitening. Raises `ArtifactError` as `search`."""
        return self._encoder.space

    @property
    def vectors(self) -> FloatArray:
        """The item vectors `(I, d)`, unit rows."""
        return self._model.retrieval.vectors

    def item_row(self, item_id: Id) -> int:
        """Return the row of an item in the catalogue. Raises `UnknownIdError` where the catalogue does not hold it."""
        return self._lookup.item_row(item_id)

    @property
    def histories(self) -> Histories:
        """The events of every user, a row for each of `user_ids`."""
        return self._lookup.stored

    def add_items(self, items: pl.DataFrame) -> Recommender:
        """Return a recommender that knows further items too; this one stays as it is.

        Only the new items are encoded. Nobody has had them yet, so text retrievers alone propose them. The `version`
        of the copy says how many were added. The copy holds them in memory; `save` publishes it.

        Args:
            items: Rows with columns of the catalogue, `item_id` at least; see `recsys.tables.catalog.further_items`.

        Returns:
            The copy; this very recommender where `items` is empty.

        Raises:
            DataError: A row could not be in a catalogue, or its id is there already.
            ArtifactError: As `search`.
        """
        require_polars("adding items")
        from recsys.artifacts.add_items import add_items
        from recsys.tables.catalog import further_items

        further = further_items(items, self.catalog)
        if not further.height:
            return self
        space = self._encoder.space
        return Recommender(add_items(self._bundle, self.config, further, space), space)

    @one_thread()
    def recommend(self, user_id: Id, k: int = 10, *, history: Events | None = None,
                  context: Mapping[str, Any] | None = None,
                  candidates: Iterable[Id] | None = None, exclude: Iterable[Id] | None = None,
                  where: Where | None = None, caps: Mapping[str, int] | None = None,
                  pinned: Iterable[Id] | None = None, boosts: Mapping[Id, float] | None = None,
                  diversity: float = 0.0, variants: VariantChoice | None = None, unknown: Unknown = "refuse",
                  explain: bool = False, strict: bool = False) -> Recommendations:  # fmt: skip
        """Return exactly `k` items for one user, best first; where that cannot be, `shortage` says why.

        An unknown user gets what is popular, flagged `fallback` unless a history or a text in the request shapes the
        list; with `strict` it is an `UnknownIdError`. Probabilities are those of `score`: no filter, boost or pin
        moves them.

        Args:
            user_id: The user.
            k: How many items.
            history: Events of the session, oldest first: item ids, or mappings (rows of a polars or pandas frame) with
                `item_id` and, where known, `event` and `time`. They count at once; what the bundle knows of them
                already counts once (`serving.sessions`).
            context: A mapping with a free `text`. The items nearest to it join the candidates, and the order is fused
                from the model's and the text's (`ranking.fusion`). The encoder is loaded with the first text.
            candidates: Rank only these; all of them, whether a retriever would propose them or not.
            exclude: Items that the list must not hold.
            where: A condition on the columns of the catalogue: a string such as `price <= 20 and brand == "A"`, or a
                polars expression. An item for which it is undecided (a missing value) is not shown.
            caps: For a column, how many items of one of its values the list may hold: `{"brand": 2}`.
            pinned: Items to put first, in this order, unless the other conditions keep them out.
            boosts: What to add to the score of an item that is a candidate, in units of the score.
            diversity: How much the items should differ from each other, from 0 (by score alone) to 1.
            variants: `one` lists the best variant of a product alone, `all` any number; by default as the config says.
            unknown: What to do with items that the bundle does not hold: `refuse` them, or `ignore` them and name them
                in `Recommendations.ignored`.
            explain: Fill `Recommendation.reasons`: what moved each score.
            strict: Refuse an unknown user.

        Returns:
            The list; it iterates over its items.

        Raises:
            RequestError: An argument cannot be understood.
            UnknownIdError: The bundle does not hold an item, or with `strict` the user.
            ArtifactError: With a text, as `search`.
        """
        user, k = requests.check_user_id(user_id), requests.check_count(k)
        explain = requests.check_flag("explain", explain)
        answer = self._pipeline.answer(user_id, k, history=history, context=context, candidates=candidates,
                                       exclude=exclude, where=where, caps=caps, pinned=pinned, boosts=boosts,
                                       diversity=diversity, variants=variants, unknown=unknown,
                                       strict=strict)  # fmt: skip
        ranking = answer.ranking
        reasons: Sequence[Mapping[str, float]] = [{}] * len(ranking.item)
        if explain:
            reasons = top_reasons(self._model, answer.context, answer.x, ranking.item)
        probability = self._pipeline.probability(answer)
        items = to_recommendations(self.catalog, self._model.retrieval.proposers, ranking, reasons,
                                   answer.conditions.pinned_rows, probability, answer.text_hits)  # fmt: skip
        cold = not len(answer.histories.item)
        return Recommendations(
            user_id=user,
            items=items,
            cold=cold,
            fallback=cold and answer.text_hits is None,
            model_version=self.version,
            request_id=uuid.uuid4().hex,
            shortage=self._pipeline.shortage(k, answer),
            ignored=answer.ignored,
        )

    def recommend_batch(self, users: Sequence[Id] | None = None, k: int = 10,
                        **conditions: Unpack[ListConditions]) -> pl.DataFrame:  # fmt: skip
        """Return `k` items for each of many users as one frame.

        Args:
            users: The users; all known users by default.
            k: How many items for each.
            **conditions: `where`, `candidates`, `exclude`, `caps`, `pinned`, `boosts`, `diversity`, `variants` and
                `unknown`, as in `recommend`, for all users.

        Returns:
            Columns user_id, item_id, rank (from 1), score and probability (float32), source (retrievers joined by `+`),
            model_version. A user has fewer than `k` rows only where nothing else may be shown.

        Raises:
            UnknownIdError: The bundle does not hold a user or an item.
            RequestError: An argument cannot be understood.
        """
        return self._batch.recommend(users, k, **conditions)

    def read_conditions(self, **conditions: Unpack[ListConditions]) -> Conditions:
        """Read conditions once, for many calls of `rank_rows`. Raises as `recommend_batch`."""
        return self._batch.read(**conditions)

    def rank_rows(self, rows: LongArray, k: int, conditions: Conditions | None = None) -> pl.DataFrame:
        """Do as `recommend_batch` for users by their row numbers `(n,)`, in one batch on this thread."""
        return self._batch.rank_rows(rows, k, conditions or self._batch.read())

    @one_thread()
    def score(self, user_id: Id, item_ids: Iterable[Id], *, history: Events | None = None,
              unknown: Unknown = "refuse", strict: bool = False) -> pl.DataFrame:  # fmt: skip
        """Score items that the caller already has, in the order given.

        Each item is scored among the user's own candidates, so score and probability mean the same as in `recommend`
        without `candidates`.

        Args:
            user_id: The user; an unknown one has no history.
            item_ids: The items.
            history: As in `recommend`.
            unknown: As in `recommend`; an item that is ignored has neither score nor probability.
            strict: Refuse an unknown user.

        Returns:
            Columns item_id, score, probability.

        Raises:
            UnknownIdError: The catalogue does not hold an item, or with `strict` the bundle the user.
            RequestError: An argument cannot be understood.
        """
        left_out, ids = UnknownItems(unknown), requests.parse_ids("item_ids", item_ids)
        histories = self._lookup.history_for_request(user_id, history, strict, left_out)
        rows = self._lookup.item_rows("item_ids", ids, left_out)
        return score_items(self._model, self.catalog, histories, ids, rows)

    @one_thread()
    def explain(self, user_id: Id, item_ids: Iterable[Id], *, history: Events | None = None,
                unknown: Unknown = "refuse", strict: bool = False) -> list[Explanation]:  # fmt: skip
        """Explain the score of items for a user, in the order given: by features, and by the history behind them.

        An item that no retriever proposed is explained as if it alone had joined the candidates, as in `score`.

        Args:
            user_id: The user; an unknown one has no history.
            item_ids: The items.
            history: As in `recommend`.
            unknown: As in `recommend`, of the items of `history`.
            strict: Refuse an unknown user.

        Raises:
            UnknownIdError: The catalogue does not hold an item, or with `strict` the bundle the user.
            RequestError: An argument cannot be understood.
        """
        histories = self._lookup.history_for_request(user_id, history, strict, UnknownItems(unknown))
        items = self._lookup.item_rows("item_ids", requests.parse_ids("item_ids", item_ids))
        return explanations(self._model, self.catalog, histories, self._model.retrieval.context(histories), items)

    @one_thread()
    def why_not(self, user_id: Id, item_id: Id, k: int = 10, **request: Unpack[Request]) -> WhyNot:
        """Say at which stage an item was lost on the way to a user's list of `k`, and what it would have taken.

        Args:
            user_id: The user.
            item_id: The item.
            k: The length of the list.
            **request: Further arguments of `recommend`, except `explain`.

        Raises:
            RequestError: As `recommend`.
            UnknownIdError: As `recommend`.
            ArtifactError: As `recommend`.
        """
        k = requests.check_count(k)
        row = np.array([self._lookup.item_row(item_id)])
        answer = self._pipeline.answer(user_id, k, **request)
        offered = answer.conditions.offered
        passes = offered is None or offered.holds(row)
        kept_out = {FILTERED: row[~np.asarray(passes)], EXCLUDED: answer.conditions.excluded_rows,
                    SEEN: answer.context.blocked_pairs}  # fmt: skip
        return why_not(self._model, self.catalog, answer.context, answer.ranking, int(row[0]), k, kept_out)

    def similar_items(self, item_id: Id, k: int = 10, *, variants: VariantChoice | None = None) -> pl.DataFrame:
        """Return the `k` items whose text vectors are nearest to an item's.

        Args:
            item_id: The item. Where one variant a product is listed, none of its own product is.
            k: How many items.
            variants: As in `recommend`.

        Returns:
            Columns item_id, title, score (cosine), nearest first.

        Raises:
            UnknownIdError: The catalogue does not hold the item.
            RequestError: `k` is not a whole number from 0, or `variants` neither `one` nor `all`.
        """
        k, row, shown = requests.check_count(k), self._lookup.item_row(item_id), self._shown_variants(variants)
        own = np.array([row]) if shown is None else shown.siblings(np.array([row]))
        vectors = self._model.retrieval.vectors
        return nearest_items(self.catalog, vectors, np.asarray(vectors[row]), k, own, shown)

    def search(self, text: str, k: int = 10, *, variants: VariantChoice | None = None) -> pl.DataFrame:
        """Return the `k` items nearest to a free text. The encoder is loaded with the first text.

        Args:
            text: Any words.
            k: How many items.
            variants: As in `recommend`.

        Returns:
            Columns item_id, title, score (cosine), nearest first.

        Raises:
            ArtifactError: The encoder on this machine is not the one that made the bundle's vectors.
            RequestError: `text` holds no words, `k` is no whole number from 0, or `variants` neither `one` nor `all`.
        """
        text, k, shown = requests.check_text(text), requests.check_count(k), self._shown_variants(variants)
        query = self._encoder.encode(text)[0]
        return nearest_items(self.catalog, self._model.retrieval.vectors, query, k, np.zeros(0, dtype=np.int64), shown)

    def _shown_variants(self, variants: VariantChoice | None) -> Variants | None:
        return self._variants if self._reader.lists_one(variants) else None

    def history(self, user_id: Id) -> pl.DataFrame:
        """Return the events of a user that the bundle holds, newest first.

        Returns:
            Columns item_id, title, time (microseconds since 1970, or plain integers under `clock: order`).

        Raises:
            UnknownIdError: The bundle does not hold the user.
        """
        histories = self._lookup.histories(np.array([self._lookup.user_row(user_id, strict=True)]))
        newest = titled(self.catalog, histories.item[::-1])
        return newest.with_columns(pl.Series("time", histories.time[::-1]))
