"""Members of other packages: register one, and a YAML can name it like those of this library.

    from recsys import extend

    @extend.retriever
    @dataclass(frozen=True)
    class Trending(Retriever):
        name: ClassVar[str] = "trending"
        ...

A decorator registers when its module is imported. A package that is to work without an import, as for
`recsys train CONFIG.yaml`, names its members by entry points, each under its name in a YAML:

    [project.entry-points."recsys.retrievers"]
    trending = "acme_recsys.trending:Trending"

The groups are `recsys.retrievers`, `recsys.features`, `recsys.scorers`, `recsys.encoders`, `recsys.sources`,
`recsys.sinks` and `recsys.metrics`. Bundles record which members of other packages they need
(`recsys.artifacts.extensions`), and are never a reason to import one: only what is installed or imported here can be
named.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, TypeVar, overload

from recsys.errors import ConfigError
from recsys.registry import Family, family

M = TypeVar("M")

__all__ = ["encoder", "feature", "metric", "retriever", "scorer", "sink", "source"]


class _Door:
    """Registers members of one family; used as a decorator, with or without a name, or called with a member."""

    def __init__(self, kind: str, contract: str, settings: bool = False) -> None:
        self._kind, self._settings = kind, settings
        self.__doc__ = f"""Register a {kind}: {contract}.

        Args:
            member: The {kind}. Its `name` attribute, or the name of a function, is its name in a YAML.
            name: Another name.

        Returns:
            The member as it is, or a decorator where only a name is given.

        Raises:
            ConfigError: the name is taken (the message names both homes) or is no lower-case identifier.
        """

    @overload
    def __call__(self, member: M, *, name: str | None = None) -> M: ...

    @overload
    def __call__(self, *, name: str) -> Callable[[M], M]: ...

    def __call__(self, member: Any = None, *, name: str | None = None) -> Any:
        module = sys._getframe(1).f_globals.get("__name__", "__main__")
        if member is None:
            return lambda decorated: self._add(decorated, name, module)
        return self._add(member, name, module)

    def _add(self, member: M, name: str | None, module: str) -> M:
        if self._settings and not (isinstance(member, type) and dataclasses.is_dataclass(member)):
            raise ConfigError(f"a {self._kind} must be a dataclass, whose fields are its settings; {member!r} is none")
        members = family(self._kind)
        assert isinstance(members, Family)
        return members.extend(member, name, module)


retriever = _Door("retriever", "a dataclass of settings as `recsys.retrieval.base.Retriever`", settings=True)
feature = _Door("feature", "as `recsys.ranking.features.Feature`")
scorer = _Door("scorer", "a dataclass of settings as `recsys.ranking.scorers.base.Scorer`", settings=True)
encoder = _Door("encoder", "called with the embedding settings, it returns a `recsys.embedding.base.Encoder`")
source = _Door("source", "a dataclass of settings as `recsys.tables.sources.base.Source`", settings=True)
sink = _Door("sink", "a class as `recsys.sinks.base.Store`")
metric = _Door("metric", "a function as those in `recsys.evaluation.metrics`")
