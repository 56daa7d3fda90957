"""Who was forgotten: keyed hashes of user ids, never the ids, which every later ingest respects.

`forgotten.json` lies in the run's folder beside the bundle. Its salt keeps a hash from being found in a table made
beforehand, or from being the same in two shops. It is no secret: whoever holds the file and guesses an id can check it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from recsys.errors import ArtifactError
from recsys.storage import atomic

TOMBSTONES = "forgotten.json"


@dataclass(frozen=True)
class Tombstones:
    """The forgotten people of one folder: `users` is the day (ISO, UTC) of each by the hash of their id."""

    salt: bytes
    users: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> Tombstones:
        """Read those of a folder; without a file nobody was forgotten.

        Raises `ArtifactError` where the file is damaged: going on would bring back who is in it.
        """
        path = folder / TOMBSTONES
        if not path.exists():
            return cls(secrets.token_bytes(16), {})
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(bytes.fromhex(stored["salt"]), {str(key): str(day) for key, day in stored["users"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path} is damaged ({error!r}), so nobody can tell who was forgotten: restore it from a backup before "
                "anything is read again"
            ) from error

    def hold(self, ids: pl.Series) -> pl.Series:
        """Whether each id, a text or a whole number, is that of a forgotten user: booleans."""
        if not self.users:
            return pl.repeat(False, len(ids), eager=True)
        texts = ids.cast(pl.String).to_list()
        return pl.Series([text is not None and self._hash(text) in self.users for text in texts], dtype=pl.Boolean)

    def add(self, folder: Path, ids: Iterable[str]) -> Tombstones:
        """Write these ids down in a folder too, and return all. Raises `ArtifactError` where it cannot be written."""
        today = datetime.now(UTC).date().isoformat()
        both = Tombstones(self.salt, {self._hash(text): today for text in ids} | dict(self.users))
        path = folder / TOMBSTONES
        try:
            atomic.write(path, json.dumps({"salt": both.salt.hex(), "users": both.users}, indent=1, sort_keys=True))
        except OSError as error:
            raise ArtifactError(f"{path} could not be written ({error}): nobody was forgotten") from error
        return both

    def _hash(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self.salt, digest_size=16).hexdigest()
