"""Commands that answer and write: customers' questions, copy about items."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recsys.cli.console import note, show_json
from recsys.cli.options import BundleOption, ConfigOption, Json, load_bundle

if TYPE_CHECKING:
    from recsys.assistant.copywriting import Copy

PANEL = "Answer and write"

commands = typer.Typer()

Endpoint = Annotated[
    str | None,
    typer.Option(metavar="URL", help="An OpenAI-compatible endpoint that drafts; its key is $RECSYS_LLM_KEY."),
]
DraftModel = Annotated[
    str | None, typer.Option("--model", help="The endpoint's model; without --endpoint a local folder or .gguf file.")
]
CurrencyOption = Annotated[
    str | None, typer.Option(help="Written before every price; the catalogue holds numbers alone.")
]


@commands.command(rich_help_panel=PANEL, epilog='Example: recsys ask "How much is the Aurora tent?" --user u383')
def ask(
    question: Annotated[str, typer.Argument(help="What a customer asks, in English or Chinese.")],
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Who asks: the only user whose orders the answer may speak of.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="A YAML of the shop's own example questions, words and currency.")
    ] = None,
    endpoint: Endpoint = None,
    model: DraftModel = None,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Answer a question from the catalogue and the asker's own orders, or say that a person must."""
    from recsys.assistant.drafts import make_drafter
    from recsys.assistant.questions import Assistant

    recommender = load_bundle(bundle, config)
    answer = Assistant(recommender, questions, make_drafter(endpoint, model)).ask(question, user)
    if as_json:
        show_json(answer.to_dict())
        return
    print(answer.text)
    note(f"{answer.status.replace('_', ' ')} ({answer.intent}){_sources(answer.facts)}")


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys copy i001 --kind ad")
def copy(
    item_id: Annotated[str | None, typer.Argument(help="The item; leave it out with --all or --audience.")] = None,
    kind: Annotated[str, typer.Option(help="description, ad or email.")] = "description",
    language: Annotated[str | None, typer.Option(help="en or zh. Default: that of the item's own texts.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Write about every item: one JSON object a line.")] = False,
    audience: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --kind email: to these users, one id a line; their list.")
    ] = None,
    currency: CurrencyOption = None,
    endpoint: Endpoint = None,
    model: DraftModel = None,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a description, an ad or an e-mail that states only what the catalogue and the orders state."""
    if sum((item_id is not None, every, audience is not None)) != 1:
        raise typer.BadParameter("give an ITEM_ID, or --all, or --audience FILE")
    from recsys.assistant.copywriting import Copywriter
    from recsys.assistant.drafts import make_drafter

    writer = Copywriter(load_bundle(bundle, config), make_drafter(endpoint, model), currency)
    if every:
        _show_all(writer.write_all(kind, language))  # type: ignore[arg-type]
        return
    if audience is not None:
        if kind != "email":
            raise typer.BadParameter(f"--audience writes an e-mail: add --kind email (it is {kind})")
        written = writer.write_to(_read_ids(audience), language=language or "en")
    else:
        written = writer.write(str(item_id), kind, language)  # type: ignore[arg-type]
    if as_json:
        show_json(written.to_dict())
        return
    if written.subject:
        print(f"{written.subject}\n")
    print(written.text)
    for draft in written.rejected:
        note(f"a draft was not published: {'; '.join(draft['reasons'])}")
    note(f"written by: {written.written_by}{_sources(written.facts)}")


def _show_all(copies: Iterable[Copy]) -> None:
    count = 0
    written = {"template": 0, "model": 0}
    for one in copies:
        count += 1
        written[one.written_by] += 1
        show_json(one.to_dict(), indent=None)
    note(f"{count:,} texts: {written['template']:,} templates, {written['model']:,} by the model")


def _sources(facts: Iterable[Any]) -> str:
    """Name the items and orders that a text rests on."""
    items = dict.fromkeys(str(fact.item_id) for fact in facts)
    orders = dict.fromkeys(order for fact in facts for order in getattr(fact, "order_ids", ()))
    parts = [f"items {', '.join(items)}"] * bool(items) + [f"orders {', '.join(orders)}"] * bool(orders)
    return f"; sources: {'; '.join(parts)}" if parts else ""


def _read_ids(path: Path) -> list[str]:
    from recsys.errors import DataError

    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the audience {path} cannot be read ({type(error).__name__}); give a text file with one user id a line"
        ) from error
    return [line.strip() for line in lines if line.strip()]
