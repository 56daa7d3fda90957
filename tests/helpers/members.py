"""Members that a test adds to a family, or takes out of it, until it ends."""

from __future__ import annotations

from typing import Any

import pytest

from recsys.registry import FAMILIES, Family, family


def add_member(monkeypatch: pytest.MonkeyPatch, family: Family[Any], name: str, member: object) -> None:
    _copied(monkeypatch, family)
    family.extend(member, name, __name__)


def drop_member(monkeypatch: pytest.MonkeyPatch, family: Family[Any], name: str) -> None:
    del _copied(monkeypatch, family)[name]


def isolate_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget, when the test ends, whatever it adds to any family."""
    for kind in FAMILIES:
        members = family(kind)
        if isinstance(members, Family):
            _copied(monkeypatch, members)


def _copied(monkeypatch: pytest.MonkeyPatch, family: Family[Any]) -> dict[str, Any]:
    family._discover()
    monkeypatch.setattr(family, "_entries", dict(family._entries))
    return family._entries
