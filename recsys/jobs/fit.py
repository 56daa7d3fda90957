"""From two data frames to a recommender, in one call."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.config import Config, load_config, parse_config
from recsys.jobs.init import complete, data_section
from recsys.jobs.train import train
from recsys.parallel.forks import require_polars
from recsys.progress import Progress, quiet
from recsys.serving.recommender import Recommender
from recsys.tables.frames import to_polars
from recsys.tables.profile import TableProfile
from recsys.tables.roles import assign_roles

NAME = "fitted"


def fit(catalog: Any, interactions: Any, config: Config | Mapping[str, Any] | str | Path | None = None,
        progress: Progress = quiet) -> Recommender:  # fmt: skip
    """Learn from a catalogue and a log of behaviour in memory, and return a recommender.

        shop = recsys.fit(items, events)
        shop.recommend("u383", k=10)
        shop.save("artifacts/shop")

    Args:
        catalog: One row an item: a polars or pandas frame, a pyarrow table, or anything with the Arrow PyCapsule
            interface. Columns are found by their names and values: an id, and what there is of title, description,
            category, brand and price.
        interactions: One row an event: a user, an item, and what there is of time, kind and value.
        config: None chooses settings that suit the data. A mapping replaces sections of these, such as
            `{"scorer": {"kind": "logistic"}}`. A `Config`, or the path of a YAML file, is used as it stands, but reads
            these frames.
        progress: Called with (stage, done, total).

    Returns:
        The recommender. Its bundle lies in a temporary folder that goes with it: `save` keeps it. With `output` in the
        config the bundle is published there, as `recsys.train` does.

    Raises:
        DataError: a frame cannot be read, lacks users or items, or leaves nothing to learn from.
        ConfigError: as `load_config`.
    """
    require_polars("fitting")
    room = tempfile.TemporaryDirectory(prefix="recsys-", ignore_cleanup_errors=True)
    try:
        recommender = Recommender.load(train(_resolve(catalog, interactions, config, Path(room.name)), progress))
    except BaseException:
        room.cleanup()
        raise
    weakref.finalize(recommender, room.cleanup)
    return recommender


def _resolve(catalog: Any, interactions: Any, config: Config | Mapping[str, Any] | str | Path | None,
             room: Path) -> Config:  # fmt: skip
    """Put the frames beside each other as Parquet, and say in a config how to read them."""
    frames = {"catalog": to_polars(catalog, "catalog"), "interactions": to_polars(interactions, "interactions")}
    paths = {name: str(room / f"{name}.parquet") for name in frames}
    for name, frame in frames.items():
        frame.write_parquet(paths[name])
    if isinstance(config, Config | str | Path):
        loaded = config if isinstance(config, Config) else load_config(config)
        raw: dict[str, Any] = loaded.model_dump(mode="json")
        for name, path in paths.items():
            raw["data"][name] |= {"source": "parquet", "path": path}
        return parse_config(raw, "config")
    given = dict(config or {})
    output = str(given.get("output", room))
    tables = {name: TableProfile.of(name, frame) for name, frame in frames.items()}
    roles = assign_roles(tables["interactions"], tables["catalog"])
    data, notes = data_section(roles, {name: {"source": "parquet"} for name in frames})
    for name, path in paths.items():
        data[name]["path"] = path
    proposal = complete(data | given.pop("data", {}), notes, str(given.get("name", NAME)), output)
    return parse_config({**proposal.raw, **given, "output": output}, "config")
