"""`init` on exports as platforms write them: folded, split over files, headerless, printed by Python."""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from recsys.config import parse_config
from recsys.errors import DataError
from recsys.jobs.init import Proposal, propose

START = datetime(2024, 1, 14)
USERS, ITEMS, ORDERS = 20, 12, 120
WORDS = ["Red Lamp", "Oak Chair", "Blue Shirt", "Tea Pot", "Wool Hat", "Silk Scarf"]
TITLES = [f"{WORDS[n % 6]} No{n}" for n in range(ITEMS)]


def at(order: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return (START + timedelta(hours=7 * order)).strftime(form)


def orders() -> list[tuple[int, int, list[int]]]:
    """Number, user and items of each order."""
    rng = np.random.default_rng(4)
    return [(n, n % USERS, rng.choice(ITEMS, 2, replace=False).tolist()) for n in range(ORDERS)]


def write(folder: Path, name: str, lines: list[str]) -> Path:
    text = "\n".join(lines) + "\n"
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder / name


def data_of(proposal: Proposal) -> dict:
    """The `data` section as the written config holds it."""
    written = yaml.safe_load(proposal.to_yaml())
    assert parse_config(written) == proposal.config
    return written["data"]


def shopify(folder: Path, with_sku: bool) -> list[Path]:
    """Products with a row a variant, and one without any but a picture; orders whose later rows are blank."""
    products, names = ["Handle,Title,Body (HTML),Vendor,Option1 Value,Variant SKU,Variant Price,Image Src"], []
    for n, title in enumerate(TITLES):
        names.append(f"{title} - X-Large")
        products.append(f"h{n},{title},<p>nice</p>,Acme,Small,S{n}-0,{n + 1},http")
        products.append(f"h{n},,,,X-Large,S{n}-1,{n + 2},")
        products.append(f"h{n},,,,,,,http2")
    lines = ["Name,Email,Paid at,Total,Created at,Lineitem quantity,Lineitem name,Lineitem sku,Lineitem price"]
    for number, user, items in orders():
        first = f"c{user}@x.com,{at(number)} -0500,9,{at(number)} -0500"
        for place, item in enumerate(items):
            sku = f"S{item}-1" if with_sku else ""
            lines.append(f"#{number},{',,,' if place else first},1,{names[item]},{sku},5")
    return [write(folder, "orders.csv", lines), write(folder, "products.csv", products)]


def test_products_and_orders_that_span_rows_and_name_variants_by_titles(tmp_path: Path) -> None:
    proposal = propose(shopify(tmp_path, with_sku=False))
    data = data_of(proposal)
    assert data["catalog"]["one_row_per"] == "Handle"
    assert data["interactions"]["tables"]["orders"]["fill_down"] == {"Name": ["Email", "Created at"]}
    assert (proposal.facts.users, proposal.facts.items, proposal.facts.events) == (USERS, ITEMS, 2 * ORDERS)
    assert proposal.tables.catalog.frame["title"].to_list() == TITLES
    assert proposal.tables.catalog.ids.to_list() == [f"h{n}" for n in range(ITEMS)]
    assert "items are named by 'Lineitem name': 100.0% of the rows name a 'Title' of products.csv, with or without a " \
           "variant behind ` - `" in proposal.notes  # fmt: skip


def test_orders_that_name_variants_by_their_numbers(tmp_path: Path) -> None:
    proposal = propose(shopify(tmp_path, with_sku=True))
    catalog = data_of(proposal)["catalog"]
    assert (catalog["columns"]["item_id"], catalog["one_row_per"]) == ("Variant SKU", "Variant SKU")
    assert catalog["fill_down"] == {"Handle": ["Title", "Body (HTML)", "Vendor"]}
    assert proposal.tables.catalog.frame["title"].null_count() == 0
    assert (proposal.facts.items, proposal.facts.events) == (2 * ITEMS, 2 * ORDERS)


def relational(folder: Path, known: float = 1.0) -> list[Path]:
    """Lines, orders, customers who have a number an order, products and the names of their categories."""
    lines = ["order_id,order_item_id,product_id,shipping_limit_date,price,freight_value"]
    heads = ["order_id,customer_id,order_purchase_timestamp,order_delivered_customer_date"]
    people = ["customer_id,customer_unique_id,customer_city"]
    for number, user, items in orders():
        lines += [f"o{number},{place + 1},p{item},{at(number + 9)},9.5,3.25" for place, item in enumerate(items)]
        if number < known * ORDERS:
            heads.append(f"o{number},c{number},{at(number)},{at(number + 50)}")
        people.append(f"c{number},u{user},rio")
    products = ["product_id,product_category_name,product_weight_g", *(f"p{n},cat_{n % 3},20" for n in range(ITEMS))]
    names = ["product_category_name,product_category_name_english", *(f"cat_{n},kind {n}" for n in range(3))]
    tables = {"lines.csv.gz": lines, "orders.csv.gz": heads, "customers.csv": people, "products.csv": products,
              "translation.csv": names}  # fmt: skip
    return [write(folder, name, rows) for name, rows in tables.items()]


def test_orders_their_lines_customers_and_products_are_joined(tmp_path: Path) -> None:
    """The person is who comes in several orders; the time is that of the order; freight is no value."""
    proposal = propose(relational(tmp_path))
    data = data_of(proposal)
    assert data["interactions"]["columns"] == {"user_id": "customer_unique_id", "item_id": "product_id",
                                               "timestamp": "order_purchase_timestamp"}  # fmt: skip
    assert data["interactions"]["query"] == (
        "SELECT customers.customer_unique_id,\n       lines.product_id,\n       orders.order_purchase_timestamp\n"
        "FROM lines\nLEFT JOIN orders ON lines.order_id = orders.order_id\n"
        "LEFT JOIN customers ON orders.customer_id = customers.customer_id\n"
        "ORDER BY customer_unique_id, order_purchase_timestamp, product_id\n"
    )
    assert "orders.csv.gz is joined by 'order_id', which 100.0% of the rows of lines.csv.gz find" in proposal.notes
    assert data["catalog"]["columns"] == {"item_id": "product_id", "category": "product_category_name_english"}
    kinds = dict(proposal.tables.catalog.frame.select("item_id", "category").rows())
    assert kinds == {f"p{n}": f"kind {n % 3}" for n in range(ITEMS)}
    assert (proposal.facts.users, proposal.facts.items, proposal.facts.events) == (USERS, ITEMS, 2 * ORDERS)


def test_orders_that_the_other_file_lacks(tmp_path: Path) -> None:
    proposal = propose(relational(tmp_path, known=0.75))
    assert ("orders.csv.gz is joined by 'order_id', which 75.0% of the rows of lines.csv.gz find; the other 25.0% are "
            "left out") in proposal.notes  # fmt: skip
    assert proposal.facts.events == 2 * ORDERS * 0.75
    query = data_of(proposal)["interactions"]["query"]
    assert "CASE WHEN orders.order_id IS NULL THEN 'order_id: not in orders.csv.gz' END AS left_out" in query
    # Every run says it, not `init` alone.
    assert proposal.tables.report["interactions"]["dropped"] == {"order_id: not in orders.csv.gz": 2 * ORDERS * 0.25}
    few = propose(relational(tmp_path, known=0.1))
    assert "query" not in data_of(few)["interactions"]
    assert any("orders.csv.gz ties 10% of 'order_id' to 'customer_id'" in note for note in few.notes)


def test_parts_positions_and_genres(tmp_path: Path) -> None:
    """Two files of one table, orders that are numbered and not dated, a file of genres with several rows a film."""
    head = "order_id,product_id,add_to_cart_order"
    parts = {"lines__prior.csv": [head], "lines__train.csv": [head]}
    heads = ["order_id,user_id,order_number"]
    for number, user, items in orders():
        part = parts["lines__train.csv" if number >= ORDERS - USERS else "lines__prior.csv"]
        part += [f"{number},{item},{place + 1}" for place, item in enumerate(items)]
        heads.append(f"{number},{user},{number // USERS + 1}")
    tables = parts | {"orders.csv": heads, "genres.csv": ["product_id,genre"]}
    tables["products.csv"] = ["product_id,product_name", *(f"{n},{title}" for n, title in enumerate(TITLES))]
    tables["genres.csv"] += [
        f"{n},{genre}" for n in range(ITEMS) for genre in ("home", "garden" if n % 2 else "office")
    ]
    proposal = propose([write(tmp_path, name, rows) for name, rows in tables.items()])
    data = data_of(proposal)
    assert data["clock"] == "order"
    assert data["interactions"]["columns"] == {"item_id": "product_id", "timestamp": "order_number"}
    assert (proposal.facts.users, proposal.facts.events) == (USERS, 2 * ORDERS)
    genres = dict(proposal.tables.catalog.frame.select("item_id", "category").rows())
    assert set(genres[1].split(" > ")) == {"home", "garden"}
    assert "genres.csv gives each item's list of genre: 100.0% of the items are found by 'product_id'" in proposal.notes


def test_a_property_a_row(tmp_path: Path) -> None:
    events = ["timestamp,visitorid,event,itemid"]
    events += [f"{1700000000000 + n * 1000},{user},view,{item}" for n, user, items in orders() for item in items]
    rows = ["timestamp,itemid,property,value"]
    for n in range(ITEMS):
        rows += [f"1700000000000,{n},categoryid,{n % 3}", f"1700000000000,{n},888,n12.000 77"]
        rows.append(f"1800000000000,{n},categoryid,9")  # what it becomes later is not known yet
    proposal = propose([write(tmp_path, "events.csv", events), write(tmp_path, "item_properties.csv", rows)])
    assert data_of(proposal)["catalog"]["query"] == (
        'WITH earliest AS (\n  SELECT itemid, property, MIN("timestamp") AS moment FROM item_properties\n'
        "  WHERE property IN ('categoryid') GROUP BY itemid, property\n)\n"
        "SELECT item_properties.itemid,\n"
        "       MAX(CASE WHEN item_properties.property = 'categoryid' THEN item_properties.\"value\" END)"
        " AS categoryid\n"
        "FROM item_properties\nJOIN earliest ON item_properties.itemid = earliest.itemid"
        ' AND item_properties.property = earliest.property AND item_properties."timestamp" = earliest.moment\n'
        "GROUP BY item_properties.itemid\nORDER BY item_properties.itemid\n"
    )
    kinds = dict(proposal.tables.catalog.frame.select("item_id", "category").rows())
    assert kinds == {n: str(n % 3) for n in range(ITEMS)}


def test_files_without_a_header(tmp_path: Path) -> None:
    """As MovieLens writes them: `::` between cells, people in a file of their own that is not used."""
    rng = np.random.default_rng(5)
    log = [
        f"{rng.integers(1, 301)}::{rng.integers(1, 201)}::{rng.integers(1, 6)}::{1700000000 + n}" for n in range(6000)
    ]
    films = [f"{n}::Film {WORDS[n % 6]} {n} (1995)::{'Drama|War' if n % 2 else 'Comedy'}" for n in range(1, 201)]
    users = [f"{n}::{'MF'[n % 2]}::{n % 7}::48067" for n in range(1, 301)]
    files = [write(tmp_path, name, rows) for name, rows in
             {"movies.dat": films, "ratings.dat": log, "users.dat": users}.items()]  # fmt: skip
    proposal = propose(files)
    data = data_of(proposal)
    assert data["interactions"]["header"] == ["user_id", "item_id", "rating", "timestamp"]
    assert data["catalog"]["header"] == ["item_id", "title", "category"]
    assert proposal.tables.catalog.frame["category"][0] == "Drama > War"
    assert (proposal.facts.users, proposal.facts.items) == (300, 200)
    assert "not used: users.dat" in proposal.notes


def test_lines_that_python_printed(tmp_path: Path) -> None:
    people = [repr({"user_id": f"u{user}", "items": [{"item_id": str(item), "playtime": 5} for item in items]})
              for _, user, items in orders()]  # fmt: skip
    games = [
        repr({"id": str(n), "title": f"{title}'s", "free": n > 3, "price": None}) for n, title in enumerate(TITLES)
    ]
    proposal = propose([write(tmp_path, "users_items.json", people), write(tmp_path, "games.json", games)])
    assert (proposal.facts.users, proposal.facts.items, proposal.facts.events) == (USERS, ITEMS, 2 * ORDERS)
    assert proposal.tables.catalog.frame["title"].to_list() == [f"{title}'s" for title in TITLES]


@pytest.mark.parametrize(("form", "first"), [("%d/%m/%Y %H:%M", True), ("%m/%d/%Y %H:%M", False)])
def test_whether_the_day_stands_first_is_written_down(tmp_path: Path, form: str, first: bool) -> None:
    rows = [
        "customer,product,date",
        *(f"u{user},p{item},{at(n, form)}" for n, user, items in orders() for item in items),
    ]
    assert data_of(propose([write(tmp_path, "log.csv", rows)]))["day_first"] is first


def test_dates_that_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    rows = [f"u{user},p{item},0{n % 9 + 1}/0{n % 7 + 1}/2024" for n, user, items in orders() for item in items]
    log = write(tmp_path, "log.csv", ["customer,product,date", *rows])
    with pytest.raises(DataError, match=r"is day 1 of month 1 or day 1 .*`--day-first` or `--month-first` of"):
        propose([log])
    assert data_of(propose([log], day_first=True))["day_first"] is True


def test_a_place_on_another_machine() -> None:
    said = r"ftp://shop/log.csv is not on this machine: copy it here or mount it, and name that path; of other places s3://"
    with pytest.raises(DataError, match=said):
        propose(["ftp://shop/log.csv"])
