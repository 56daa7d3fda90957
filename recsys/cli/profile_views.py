"""What a person is shown of a shop's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recsys.cli.views import table
from recsys.formatting import plural, spread, values


def profiled(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Show a profile as `recsys.jobs.profile` returns it."""
    for name, one in found["tables"].items():
        rows = plural(one["rows"], "row")
        yield Text(f"{name}: {f'the first {rows}' if one['sampled'] else rows}", style="bold")
        yield _columns(one)
        yield ""
    yield Text("Users and items by number of events", style="bold")
    yield _bands(found)
    yield f"Most events of one user: {found['users']['most']:,}; of one item: {found['items']['most']:,}"
    yield f"The most frequent hundredth of the items has {found['items']['top']:.1%} of the events"
    yield ""
    yield Text("Time", style="bold")
    yield from _time(found["time"])
    yield ""
    if found["bots"]:
        yield Text("Bots", style="bold")
        yield _bots(found["bots"])
        yield ""
    yield Text("Duplicates", style="bold")
    yield f"{plural(found['duplicates']['rows'], 'row')} left out: same user, item, moment and kind as an earlier one"
    yield f"{found['duplicates']['again']:.1%} of the events have the user and item of an earlier one"
    yield ""
    yield Text("What `recsys init` concludes from these tables", style="bold")
    concluded = table("section", "because")
    for section, reason in found["conclusions"].items():
        concluded.add_row(section, escape(reason))
    yield concluded


def _columns(one: Mapping[str, Any]) -> Table:
    shown = table("column", "type", "missing", "distinct", "spread", "values", numbers=["missing", "distinct"])
    for column in one["columns"]:
        shown.add_row(escape(column["name"]), column["type"], f"{column['missing']:.1%}", f"{column['distinct']:,}",
                      spread(column["histogram"]), escape(values(column)))  # fmt: skip
    return shown


def _bots(bots: Mapping[str, Any]) -> str:
    if not bots["users"]:
        return f"No user has events at {bots['moments']} different moments within one hour"
    return (
        f"{plural(bots['users'], 'user')} with events at {bots['moments']} or more different moments within one hour, "
        f"{bots['share']:.1%} of all events: no person is so quick; leave them out, as with `source: query`"
    )


def _bands(found: Mapping[str, Any]) -> Table:
    shown = table("events", "users", "items", numbers=["events", "users", "items"])
    for band, users in found["users"]["bands"].items():
        shown.add_row(band, f"{users:,}", f"{found['items']['bands'][band]:,}")
    return shown


def _time(time: Mapping[str, Any]) -> Iterator[RenderableType]:
    if not time:
        yield "Only the order of events is known (clock: order)"
        return
    yield f"{time['first'][:10]} to {time['last'][:10]}: {time['days']:,.1f} days"
    for gap in time["gaps"]:
        yield f"No event for {gap['days']:,.1f} days from {gap['after'][:16]} to {gap['before'][:16]}"
    if not time["gaps"]:
        yield "No gap of a day or more"
