"""What a fine-tuned encoder learned from: kept beside its weights, so that no run lets it know the future."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys.embedding.locate import find_installed
from recsys.errors import ConfigError, LeakageError
from recsys.formatting import moment

LINEAGE = "recsys.json"  # in the encoder's folder


@dataclass(frozen=True)
class Lineage:
    """What an encoder was tuned on.

    Attributes:
        as_of: The first moment it does not know, microseconds since 1970; None where each user had their own cut.
        events: How many events it learned from.
        base: Fingerprint of the encoder it started from.
        seed: Seed of the tuning.
        objectives: What it was tuned for, in order.
    """

    as_of: int | None
    events: int
    base: str
    seed: int
    objectives: tuple[str, ...]

    @classmethod
    def read(cls, model: str) -> Lineage | None:
        """Read the lineage of a model folder; None for an encoder that was not tuned here.

        Raises:
            ConfigError: the file is damaged.
        """
        folder = find_installed(model)
        path = None if folder is None else folder / LINEAGE
        if path is None or not path.is_file():
            return None
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(found["as_of"], found["events"], found["base"], found["seed"], tuple(found["objectives"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is damaged ({error!r}): tune the encoder again") from error

    def write(self, folder: Path) -> None:
        """Write the lineage into an encoder's folder."""
        (folder / LINEAGE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def check(self, as_of: int | None, events: int) -> None:
        """Check that a cut knows all that the encoder was tuned on.

        Args:
            as_of: The first moment that the cut does not know; None in a per-user split.
            events: How many events the cut knows.

        Raises:
            LeakageError: the encoder was tuned on events at or after the cut, or that cannot be ruled out.
        """
        if (as_of is None) != (self.as_of is None):
            raise LeakageError(
                "embedding.model was tuned under another kind of split, so whether it knows the future of this run "
                "cannot be told: tune it again with this config"
            )
        if as_of is not None and self.as_of is not None and self.as_of > as_of:
            raise LeakageError(
                f"embedding.model was tuned on events up to {moment(self.as_of, 'time')}, and this run cuts at "
                f"{moment(as_of, 'time')}: it would know the future; tune it again with this config"
            )
        if as_of is None and self.events > events:
            raise LeakageError(
                f"embedding.model was tuned on {self.events:,} events, and a cut of this run knows {events:,}: it "
                "would know the future; tune it again with this config"
            )
