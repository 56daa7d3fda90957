"""The command `reviews`: what buyers say, for the whole shop or one item."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.cli.ask import PANEL
from recsys.cli.console import note, show, show_json
from recsys.cli.options import Json

if TYPE_CHECKING:
    from rich.table import Table

    from recsys.assistant.intervals import Share
    from recsys.assistant.reviews import ItemReviews, Quote, ReviewStudy, Standing, Trend

commands = typer.Typer()


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys reviews 941357 --config configs/shop.yaml")
def reviews(
    config: Annotated[Path, typer.Option("--config", help="The YAML whose data.reviews names the reviews.")],
    item_id: Annotated[str | None, typer.Argument(help="One item; without it, all that have reviews.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many items.")] = 20,
    as_json: Json = False,
) -> None:
    """Say what reviews say: who is content, what changes, complaints, aspects and a summary, in quotes with their ids.

    Without an item: the items whose buyers are surest to be discontent come first.
    """
    from dataclasses import asdict

    from recsys.assistant.reviews import study_reviews
    from recsys.config import load_config

    study = study_reviews(load_config(config))
    note(_told(study))
    sentiment = {"source": study.sentiment.source, **study.sentiment.measured}
    if item_id is not None:
        found = study.item(item_id)
        show_json({"sentiment": sentiment, **found.to_dict()}) if as_json else show(*_item(found))
        return
    standings = study.overview(k)
    if as_json:
        show_json({"sentiment": sentiment, "items": [asdict(one) for one in standings]})
    else:
        show(_overview(standings))


def _told(study: ReviewStudy) -> str:
    auc, calibrated = study.sentiment.measured["auc"], study.sentiment.measured["calibrated"]
    parts = [f"{len(study.reviews):,} reviews, judged by {study.sentiment.source}"]
    parts.append("how well cannot be measured without stars of both kinds" if auc is None else
                 f"a good review stands above a bad one {auc:.1%} of the time")  # fmt: skip
    return "; ".join(parts) + ("" if calibrated else "; too few stars to calibrate shares: read them as an order")


def _overview(standings: list[Standing]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Items by how content their buyers are", title_justify="left", box=None)
    for name, justify in (("item", "left"), ("title", "left"), ("reviewers", "right"), ("stars", "right"),
                          ("content", "right"), ("95%", "left"), ("lately", "left")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for one in standings:
        stars = "" if one.stars is None else f"{one.stars:.1f}"
        moves = one.trend.verdict if one.trend else ""
        table.add_row(escape(str(one.item_id)), escape(one.title[:50]), f"{one.reviewers:,}", stars,
                      f"{one.positive.value:.0%}", _interval(one.positive), moves)  # fmt: skip
    return table


def _item(found: ItemReviews) -> list[str]:
    from rich.markup import escape

    lines = [f"[bold]{escape(found.title)}[/bold] ({escape(str(found.item_id))})"]
    stars = "" if found.stars is None else f", {found.stars:.1f} stars on average"
    lines.append(f"{found.reviews:,} reviews of {found.reviewers:,} reviewers{stars}")
    lines.append(f"content, by their texts: {found.positive.value:.0%} ({_interval(found.positive)})")
    if found.trend:
        lines.append(_moves(found.trend))
    for title, quotes in (("Praise", found.pros), ("Complaints", found.cons), ("Newest discontent reviews",
                          found.complaints), ("Text against stars", found.contradictions)):  # fmt: skip
        if quotes:
            lines += ["", f"[bold]{title}[/bold]", *(escape(_quoted(quote)) for quote in quotes)]
    if found.aspects:
        lines += ["", "[bold]Aspects[/bold]"]
    for aspect in found.aspects:
        lines.append(escape(f"{aspect.name}: {aspect.praised} praise it, {aspect.complained} complain"))
        lines += [escape(f"  {_quoted(quote)}") for quote in (aspect.praise, aspect.complaint) if quote]
    return lines


def _moves(trend: Trend) -> str:
    return (f"{trend.verdict}: {trend.recent.value:.0%} of {trend.recent.n} in the last {trend.days} days, "
            f"{trend.before.value:.0%} of {trend.before.n} before")  # fmt: skip


def _interval(share: Share) -> str:
    return f"{share.low:.0%} to {share.high:.0%}"


def _quoted(quote: Quote) -> str:
    stars = "" if quote.stars is None else f", {quote.stars:g} stars"
    return f"“{quote.text}” ({quote.review_id}{stars})"
