"""Conditions of lists as options: of `recsys candidates` and of `pipelines/candidates.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from recsys.serving.conditions import ListConditions, VariantChoice
    from recsys.serving.unknown import Unknown

HELP = {
    "where": "Only such items: 'price <= 20 and brand is not null'.",
    "exclude": "Not this item. May be given again.",
    "cap": "At most so many items of one value of a column: brand=2. May be given again.",
    "pin": "This item first, in the order given. May be given again.",
    "boost": "Add to the score of an item: i001=1.5. May be given again.",
    "diversity": "From 0 (by score alone) to 1 (unlike each other).",
    "variants": "one or all variants of a product in a list. Default: what the config says.",
    "unknown": "refuse or ignore items that the bundle does not hold.",
}
REPEATED = ("exclude", "cap", "pin", "boost")

Where = Annotated[str | None, typer.Option(metavar="CONDITION", help=HELP["where"])]
Exclude = Annotated[list[str] | None, typer.Option(metavar="ITEM_ID", help=HELP["exclude"])]
Caps = Annotated[list[str] | None, typer.Option("--cap", metavar="COLUMN=MOST", help=HELP["cap"])]
Pins = Annotated[list[str] | None, typer.Option("--pin", metavar="ITEM_ID", help=HELP["pin"])]
Boosts = Annotated[list[str] | None, typer.Option("--boost", metavar="ITEM_ID=NUMBER", help=HELP["boost"])]
Diversity = Annotated[float, typer.Option(help=HELP["diversity"])]
Variants = Annotated[str | None, typer.Option(metavar="one|all", help=HELP["variants"])]
UnknownIds = Annotated[str, typer.Option("--unknown", metavar="refuse|ignore", help=HELP["unknown"])]


def list_conditions(where: str | None = None, exclude: Sequence[str] | None = None, cap: Sequence[str] | None = None,
                    pin: Sequence[str] | None = None, boost: Sequence[str] | None = None, diversity: float = 0.0,
                    variants: str | None = None, unknown: str = "refuse") -> ListConditions:  # fmt: skip
    """Return the conditions that options mean; those that were left out are left out.

    Raises:
        RequestError: A cap or a boost is no pair of a name and a number.
    """
    found: ListConditions = {}
    if where is not None:
        found["where"] = where
    if exclude:
        found["exclude"] = exclude
    if cap:
        found["caps"] = {name: int(most) for name, most in _pairs("cap", cap, whole=True)}
    if pin:
        found["pinned"] = pin
    if boost:
        found["boosts"] = dict(_pairs("boost", boost, whole=False))
    if diversity:
        found["diversity"] = diversity
    if variants is not None:
        found["variants"] = cast("VariantChoice", variants)
    if unknown != "refuse":
        found["unknown"] = cast("Unknown", unknown)
    return found


def variant_choice(variants: str | None) -> VariantChoice | None:
    """Return an option as the library takes it, which checks it."""
    return cast("VariantChoice | None", variants)


def _pairs(option: str, given: Sequence[str], whole: bool) -> list[tuple[str, float]]:
    from recsys.errors import RequestError

    pairs = []
    for one in given:
        name, _, number = one.rpartition("=")
        try:
            pairs.append((name, int(number) if whole else float(number)))
        except ValueError:
            name = ""
        if not name:
            wanted = "COLUMN=MOST with a whole number" if whole else "ITEM_ID=NUMBER"
            raise RequestError(f"--{option}: expected {wanted}, got {one!r}")
    return pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a pipeline's command line."""
    for name, text in HELP.items():
        if name in REPEATED:
            parser.add_argument(f"--{name}", action="append", help=text)
        else:
            kind = float if name == "diversity" else str
            parser.add_argument(f"--{name}", type=kind, help=text, default={"unknown": "refuse"}.get(name))


def of_arguments(arguments: argparse.Namespace) -> ListConditions:
    """Return the conditions that a pipeline's command line means. Raises as `list_conditions`."""
    values = {name: getattr(arguments, name) for name in HELP}
    return list_conditions(**values | {"diversity": values["diversity"] or 0.0})
