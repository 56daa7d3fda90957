"""What would stop a run, found in seconds: the tables are read and cut, and nothing is encoded or fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from recsys import extras
from recsys.config import Config, EmbeddingConfig, check_members
from recsys.diagnostics import FAIL, OK, WARN, Finding
from recsys.embedding.coverage import describe_unread, unread_share
from recsys.embedding.locate import find_installed
from recsys.embedding.texts import item_texts
from recsys.engine.plan import Plan
from recsys.errors import ConfigError, DataError
from recsys.formatting import moment, plural
from recsys.jobs.cuts import judged_cut, training_cuts
from recsys.tables.ingest import load_tables
from recsys.tables.split import Fold, holdouts
from recsys.tables.summary import outcome, warnings
from recsys.types import Tables

SETUP = ("packages", "encoder")  # checks of the machine; the others are of the data


def check_run(config: Config) -> list[Finding]:
    """Check what `evaluate` and `train` need before they encode the first text.

    Args:
        config: The run. As in every run, refused rows go to `quarantine/` in its folder.

    Returns:
        One finding for each of: packages, encoder, both tables, the language of the texts, what was kept, each cut, and
        `train` and `evaluate`.

    Raises:
        ConfigError: a member that the config names is unknown, or refuses its settings.
        DataError: a table cannot be read, or too many of its rows are refused.
    """
    check_members(config)
    plan = Plan.of(config)
    findings = [_check_packages(config, plan), _check_encoder(config.embedding)]
    tables = load_tables(config.data, config.folder)
    kinds = list(config.data.interactions.events)
    findings += [_check_table(name, report, kinds if name == "interactions" else [])
                 for name, report in tables.report.items() if isinstance(report, Mapping)]  # fmt: skip
    return [*findings, check_language(config.embedding, tables), _describe_log(tables), *_check_cuts(plan, tables)]


def _check_packages(config: Config, plan: Plan) -> Finding:
    """Whether what trains is installed, by extra."""
    wanted = {"cpu": extras.EXTRAS["cpu"], "train": extras.EXTRAS["train"]}
    for module, extra in plan.scorer.needs.items():
        wanted[extra] = tuple(dict.fromkeys((*wanted.get(extra, ()), module)))
    if config.embedding.precision == "int8":
        wanted["int8"] = extras.EXTRAS["int8"]
    lacking = {extra: found for extra, modules in wanted.items() if (found := extras.missing(*modules))}
    if not lacking:
        return Finding("packages", OK, f"all that this config needs is installed: {', '.join(wanted)}")
    text = "; ".join(f"{', '.join(found)} missing: pip install 'recsys[{extra}]'" for extra, found in lacking.items())
    return Finding("packages", FAIL, text, {"missing": lacking})


def _check_encoder(settings: EmbeddingConfig) -> Finding:
    """Whether the model is on this machine; it is not loaded."""
    if settings.encoder != "transformer":
        return Finding("encoder", OK, f"{settings.encoder}, an encoder of your own")
    try:
        folder = find_installed(settings.model)
    except ConfigError as error:
        return Finding("encoder", FAIL, str(error))
    if folder is None:
        text = f"{settings.model} is no folder and no installed package: a run looks for it on the Hugging Face hub"
        return Finding("encoder", WARN, text)
    return Finding("encoder", OK, f"{settings.model} in {folder}")


def check_language(settings: EmbeddingConfig, tables: Tables) -> Finding:
    """Whether the encoder reads the letters in which the items' texts are written."""
    texts = item_texts(tables.catalog, settings.text, settings.html)
    share = unread_share(settings, texts)
    if share is None:
        return Finding("language", OK, f"not looked at: the words of {settings.model} are not known on this machine")
    unread = describe_unread(settings, texts)
    text = unread or f"{settings.model} reads {1 - share:.0%} of the tokens of the items' texts"
    return Finding("language", WARN if unread else OK, text, {"unread": round(share, 4)})


def _check_table(name: str, report: Mapping[str, Any], kinds: Sequence[str]) -> Finding:
    """How many rows of a table were kept, and why the others were not."""
    numbers = {key: report.get(key, 0) for key in ("rows", "kept", "refused", "dropped", "duplicates")}
    said = warnings(report, kinds)
    return Finding(name, WARN if said or report["refused"] else OK, "; ".join([outcome(report), *said]), numbers)


def _describe_log(tables: Tables) -> Finding:
    """Users, items and events that are left, and when they happened."""
    log, items = tables.interactions, len(tables.catalog)
    had = int(np.unique(log.item).size)
    first, last = int(log.time.min()), int(log.time.max())
    numbers = {"users": log.n_users, "items": items, "items_with_events": had, "events": len(log),
               "targets": int(log.target.sum())}  # fmt: skip
    text = f"{plural(len(log), 'event')} of {plural(log.n_users, 'user')} on {had:,} of {plural(items, 'item')}, from "
    text += f"{moment(first, tables.clock)} to {moment(last, tables.clock)}"
    if numbers["targets"] < len(log):
        text += f"; {plural(numbers['targets'], 'event')} of a kind that is predicted"
    return Finding("log", OK if numbers["targets"] else FAIL, text, numbers)


def _check_cuts(plan: Plan, tables: Tables) -> Iterator[Finding]:
    """The judged cut and those that train, and whether `evaluate` and `train` can be run."""
    log = tables.interactions
    try:
        folds = holdouts(log, plan.split, plan.end(log), 1 + plan.split.folds)
    except DataError:
        folds = []
    for number, fold in enumerate(folds):
        yield _describe_cut(f"cut {number}" if number else "test cut", fold, tables.clock)
    runs: dict[str, Callable[[], object]] = {
        "train": lambda: training_cuts(plan, log, plan.end(log)),
        "evaluate": lambda: judged_cut(plan, tables),
    }
    for name, run in runs.items():
        try:
            run()
        except DataError as error:
            yield Finding(name, FAIL, str(error))
        else:
            yield Finding(name, OK, "can be run")


def _describe_cut(name: str, fold: Fold, clock: str) -> Finding:
    users = fold.labelled_users
    new = int((np.diff(fold.known.offsets)[users] == 0).sum())
    where = "before each user's last target event" if fold.as_of is None else f"at {moment(fold.as_of, clock)}"
    numbers = {"known": len(fold.known), "labels": len(fold.labels), "users": len(users), "new_users": new}
    text = f"{where}: {plural(len(fold.known), 'known event')}, {plural(len(fold.labels), 'label')} of "
    text += plural(len(users), "user") + (f", {new:,} of them new" if new else "")
    return Finding(name, OK, text, numbers)
