"""Families: the retrievers, features, scorers, encoders, sources and metrics that a name in a YAML can stand for."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from recsys.errors import ConfigError

M = TypeVar("M")
N = TypeVar("N")
T = TypeVar("T")

NAME = re.compile(r"[a-z][a-z0-9_]*")

# Where each family lives: imported when its members are first checked or built.
FAMILIES = {
    "retriever": "recsys.retrieval.registry:RETRIEVERS",
    "feature": "recsys.ranking.features:FEATURES",
    "scorer": "recsys.ranking.scorers.registry:SCORERS",
    "encoder": "recsys.embedding.registry:ENCODERS",
    "source": "recsys.tables.sources.registry:SOURCES",
    "metric": "recsys.evaluation.metrics:METRICS",
    "objective": "recsys.finetuning.registry:OBJECTIVES",
    "baseline": "recsys.evaluation.baselines:BASELINES",
}


class Problem(NamedTuple):
    """One wrong setting: its path in the config, what is wrong with it, and what to write before both."""

    path: tuple[str | int, ...]
    text: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.prefix}{'.'.join(map(str, self.path))}: {self.text}"


class SettingError(ConfigError):
    """Settings are wrong. `problems` names each of them by its path, so that a caller can add file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


class Origin(NamedTuple):
    """Where a member comes from: the module that registers it, and the distribution that ships the module, if known."""

    module: str
    distribution: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.module} ({self.distribution} {self.version})" if self.distribution else self.module


class _Entry(Generic[M]):
    def __init__(self, member: M, origin: Origin, own: bool, number: int) -> None:
        self.member, self.origin, self.own, self.number = member, origin, own, number


class Family(Mapping[str, M]):
    """The members of one kind, by name.

    A member of this library registers itself in its own module (`register`); the modules of `package` are imported
    when the family is first looked at, so adding a member touches no other file. A member of another package joins
    through `recsys.extend`, or by an entry point of `group`, which is imported when its name is looked up.

    Args:
        kind: What a member is called in messages, such as `retriever`.
        package: The package whose modules hold the members, or the one module that holds them all.
        group: The group of entry points by which other packages add members; None for a closed family.
        skip: Modules of `package` without members that are slow to import.
    """

    def __init__(self, kind: str, package: str, group: str | None = None, skip: Collection[str] = ()) -> None:
        self.kind = kind
        self.group = group
        self._package = package
        self._skip = set(skip)
        self._entries: dict[str, _Entry[M]] = {}
        self._points: dict[str, metadata.EntryPoint] | None = None
        self._discovered = False
        self._lock = threading.RLock()

    def register(self, member: N, name: str | None = None) -> N:
        """Add a member of this library and return it, so that it can stand as a decorator.

        Args:
            member: The member; its `name` attribute is the name in a YAML, for a function its own name.
            name: Another name, for a member that cannot say its own.

        Raises:
            ConfigError: the name is taken by another member.
        """
        name = name or _name_of(member)
        self._add(name, member, Origin(getattr(member, "__module__", self._package)), own=True)
        return member

    def extend(self, member: N, name: str | None, module: str) -> N:
        """Add a member that `module` of another package defines; see `recsys.extend`.

        A module may register a name again, as a notebook does when a cell is run twice.

        Raises:
            ConfigError: the name is no identifier in lower case, or is taken by a member of another module.
        """
        self._discover()
        name = name or _name_of(member)
        if not NAME.fullmatch(name):
            raise ConfigError(f"{self.kind} name {name!r} must match {NAME.pattern}")
        self._add(name, member, Origin(module), own=False)
        return member

    def origin(self, name: str) -> Origin | None:
        """Return where a member of another package comes from; None for a member of this library.

        Raises:
            KeyError: the family has no such member.
        """
        self[name]
        entry = self._entries[name]
        if entry.own or entry.origin.distribution:
            return None if entry.own else entry.origin
        top = entry.origin.module.partition(".")[0]
        distributions = metadata.packages_distributions().get(top, [])
        if not distributions:
            return entry.origin
        return Origin(entry.origin.module, distributions[0], metadata.version(distributions[0]))

    def __getitem__(self, name: str) -> M:
        self._discover()
        if name not in self._entries and name in self._entry_points():
            self._load(name)
        return self._entries[name].member

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        self._discover()
        own = [name for name, entry in self._entries.items() if entry.own]
        own.sort(key=lambda name: (self._entries[name].origin.module, self._entries[name].number))
        outside = {*self._entries, *self._entry_points()} - {*own}
        return iter([*own, *sorted(outside)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<{self.kind} family: {', '.join(self)}>"

    def _add(self, name: str, member: Any, origin: Origin, own: bool) -> None:
        with self._lock:
            known = self._entries.get(name)
            if known is not None and known.member is not member:
                if known.own or own or known.origin.module != origin.module:
                    raise _taken(self.kind, name, known.origin, origin)
                known = None
            if known is None or (origin.distribution and not known.own):
                self._entries[name] = _Entry(member, origin, own, len(self._entries))

    def _discover(self) -> None:
        """Import every module that may hold a member of this library."""
        if self._discovered:
            return
        with self._lock:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
                if module.name not in self._skip:
                    importlib.import_module(f"{self._package}.{module.name}")
            self._discovered = True

    def _entry_points(self) -> dict[str, metadata.EntryPoint]:
        """The members that installed packages offer, none of them imported yet. Reads the metadata of all packages."""
        if self._points is None:
            points: dict[str, metadata.EntryPoint] = {}
            for point in metadata.entry_points(group=self.group) if self.group else ():
                known = self._entries.get(point.name)
                if known is not None and known.own:
                    raise _taken(self.kind, point.name, known.origin, _origin_of(point))
                if point.name in points and points[point.name].value != point.value:
                    raise _taken(self.kind, point.name, _origin_of(points[point.name]), _origin_of(point))
                points[point.name] = point
            self._points = points
        return self._points

    def _load(self, name: str) -> None:
        point = self._entry_points()[name]
        origin = _origin_of(point)
        try:
            member = point.load()
        except Exception as error:  # whatever a module of somebody else raises while it is imported
            raise ConfigError(
                f"{self.kind} {name!r} of {origin} cannot be imported from {point.value!r}: {error!r}"
            ) from error
        self._add(name, member, origin, own=False)


def family(kind: str) -> Mapping[str, Any]:
    """Return the members of one of `FAMILIES` by name, importing its package."""
    module, _, attribute = FAMILIES[kind].partition(":")
    members: Mapping[str, Any] = getattr(importlib.import_module(module), attribute)
    return members


def construct(family: Mapping[str, type[T]], name: Any, settings: Mapping[str, Any], where: str,
              defaults: Mapping[str, Any] | None = None) -> T:  # fmt: skip
    """Build a member of a family from its settings in a YAML.

    Args:
        family: Members by name; each is a dataclass whose fields are its settings.
        name: The member.
        settings: Its settings.
        where: The dotted path of these settings in the config, for errors.
        defaults: Values for settings that were left out, used where the member has a setting of that name.

    Returns:
        The member, its settings checked and converted.

    Raises:
        SettingError: the family has no such member, the member no such setting, or a value is of the wrong type.
    """
    path = tuple(where.split("."))
    if not isinstance(name, str) or name not in family:
        raise SettingError([Problem(path, unknown(getattr(family, "kind", "name"), name, family))])
    member: Any = family[name]
    known = [field.name for field in dataclasses.fields(member) if field.init]
    wrong = [
        Problem((*path, str(key)), f"unknown setting of {name!r}{suggest(str(key), known)}")
        for key in settings
        if key not in known
    ]
    usual = {**(defaults or {}), **settings}
    try:
        built: T = validate(_adapter(member), {key: value for key, value in usual.items() if key in known}, path)
    except SettingError as error:
        wrong += error.problems
    if wrong:
        raise SettingError(wrong)
    return built


def validate(adapter: TypeAdapter[T], raw: Mapping[str, Any], path: tuple[str | int, ...] = (),
             describe: Callable[[Any], str] | None = None) -> T:  # fmt: skip
    """Check a mapping against a model.

    Args:
        adapter: The model.
        raw: What a YAML holds.
        path: Where in the config it stands.
        describe: Turns an error of pydantic into a text; the message and the value by default.

    Returns:
        The validated object.

    Raises:
        SettingError: with one problem for each wrong value.
    """
    try:
        return adapter.validate_python(dict(raw))
    except ValidationError as error:
        text = describe or _describe
        raise SettingError([Problem((*path, *each["loc"]), text(each)) for each in error.errors()]) from error


def unknown(kind: str, name: object, known: Collection[str]) -> str:
    """Say that a name is unknown, and which are known: `unknown retriever 'a'; did you mean 'b'? known: b, c`."""
    return f"unknown {kind} {name!r}{suggest(str(name), known)}"


def suggest(name: str, known: Collection[str]) -> str:
    """The end of such a sentence: the nearest known name, if one is near, and all of them."""
    hint = nearest(name, known)
    return f"{hint}{'' if hint else ';'} known: {', '.join(known)}"


def nearest(name: str, known: Collection[str]) -> str:
    """A hint such as `; did you mean 'item_id'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _describe(problem: Any) -> str:
    return f"{problem['msg']} (got {problem['input']!r})"


@cache
def _adapter(member: Any) -> TypeAdapter[Any]:
    return TypeAdapter(member)


def _name_of(member: object) -> str:
    name = getattr(member, "name", None) or getattr(member, "__name__", None)
    if not isinstance(name, str):
        raise ConfigError(f"{member!r} has no name: give it an attribute `name`, or register it with name=...")
    return name


def _origin_of(point: metadata.EntryPoint) -> Origin:
    found = point.dist
    return Origin(point.module, found.name if found else None, found.version if found else None)


def _taken(kind: str, name: str, first: Origin, second: Origin) -> ConfigError:
    return ConfigError(f"{kind} {name!r} is registered twice: by {first} and by {second}; rename one of them")
