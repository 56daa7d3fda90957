"""A made-up grocer: baskets of several goods, whole-number ids, cells that are empty, stock as a count.

The law of the shop. A customer visits every week or so and fills a basket with three to six goods: staples that all
take, goods of their own taste (a shelf), and for each good that has a companion (`COMPANIONS`), that companion in the
same basket seven times in ten. So what goes with what is known. One good in twelve has no price, one in ten no brand;
descriptions are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import polars as pl

CUSTOMERS, DAYS = 120, 180
START = datetime(2026, 3, 2, 9)

# Shelf: its goods as a grocer writes them.
SHELVES: dict[str, list[str]] = {
    "Dairy > Milk": [
        "Whole milk 1 gal",
        "Skim milk 1 gal",
        "Chocolate milk 1 qt",
        "Oat drink 1 l",
        "Half and half 1 pt",
    ],
    "Dairy > Cheese": [
        "Cheddar cheese 8 oz",
        "Mozzarella, shredded 16 oz",
        "Cream cheese 8 oz",
        "Parmesan wedge 5 oz",
        "Cottage cheese 24 oz",
    ],
    "Dairy > Yogurt": [
        "Greek yogurt, plain 32 oz",
        "Strawberry yogurt 6 oz",
        "Vanilla yogurt 6 oz",
        "Drinkable kefir 1 qt",
    ],
    "Bakery > Bread": [
        "Sourdough bread",
        "Whole wheat bread",
        "Hamburger buns 8 ct",
        "Flour tortillas 10 ct",
        "Plain bagels 6 ct",
        "English muffins 6 ct",
    ],
    "Bakery > Sweet": [
        "Blueberry muffins 4 ct",
        "Chocolate chip cookies 13 oz",
        "Cinnamon rolls 5 ct",
        "Carrot cake slice",
    ],
    "Produce > Fruit": [
        "Bananas 1 lb",
        "Gala apples 3 lb",
        "Navel oranges 4 lb",
        "Seedless grapes 2 lb",
        "Strawberries 1 lb",
        "Lemons 2 lb",
        "Avocado, ripe",
    ],
    "Produce > Vegetables": [
        "Baby carrots 1 lb",
        "Romaine lettuce",
        "Roma tomatoes 1 lb",
        "Yellow onions 3 lb",
        "Russet potatoes 5 lb",
        "Baby spinach 10 oz",
        "Bell pepper, red",
        "Broccoli crowns 1 lb",
    ],
    "Meat > Beef": ["Ground beef 80% lean 1 lb", "Ribeye steak 12 oz", "Beef stew meat 1 lb"],
    "Meat > Poultry": [
        "Chicken breast, boneless 2 lb",
        "Chicken thighs 3 lb",
        "Ground turkey 1 lb",
        "Turkey slices 9 oz",
    ],
    "Seafood > Fish": [
        "Atlantic salmon fillet 1 lb",
        "Canned tuna in water 5 oz",
        "Frozen shrimp 2 lb",
        "Cod fillet 12 oz",
    ],
    "Pantry > Pasta": ["Spaghetti 16 oz", "Penne rigate 16 oz", "Macaroni and cheese dinner 7 oz", "Egg noodles 12 oz"],
    "Pantry > Sauces": [
        "Marinara sauce 24 oz",
        "Alfredo sauce 15 oz",
        "Soy sauce 10 fl oz",
        "Barbecue sauce 18 oz",
        "Tomato ketchup 32 oz",
        "Yellow mustard 14 oz",
        "Mayonnaise 30 fl oz",
    ],
    "Pantry > Baking": [
        "All-purpose flour 5 lb",
        "Granulated sugar 4 lb",
        "Baking powder 8 oz",
        "Chocolate chips 12 oz",
        "Vanilla extract 2 fl oz",
        "Brown sugar 2 lb",
    ],
    "Pantry > Rice and beans": [
        "Long grain rice 2 lb",
        "Black beans, canned 15 oz",
        "Refried beans 16 oz",
        "Red lentils 1 lb",
    ],
    "Pantry > Spreads": [
        "Peanut butter, creamy 16 oz",
        "Strawberry jam 18 oz",
        "Clover honey 12 oz",
        "Hazelnut spread 13 oz",
    ],
    "Pantry > Breakfast": [
        "Rolled oats 42 oz",
        "Corn flakes 18 oz",
        "Granola with almonds 12 oz",
        "Pancake mix 32 oz",
        "Maple syrup 8 fl oz",
    ],
    "Pantry > Oil": ["Olive oil, extra virgin 17 fl oz", "Vegetable oil 48 fl oz", "Balsamic vinegar 8 fl oz"],
    "Drinks > Coffee and tea": [
        "Ground coffee, dark roast 12 oz",
        "Coffee filters 100 ct",
        "Black tea bags 100 ct",
        "Green tea bags 40 ct",
        "Instant cocoa 10 ct",
    ],
    "Drinks > Soda and water": [
        "Sparkling water, lime 8 pk",
        "Cola 12 pk",
        "Ginger ale 2 l",
        "Spring water 24 pk",
        "Orange juice 52 fl oz",
        "Apple juice 64 fl oz",
        "Tonic water 1 l",
    ],
    "Snacks > Salty": [
        "Potato chips 8 oz",
        "Tortilla chips 13 oz",
        "Salsa, medium 16 oz",
        "Pretzel twists 16 oz",
        "Microwave popcorn 6 ct",
        "Mixed nuts 10 oz",
    ],
    "Frozen > Meals": [
        "Frozen pizza, pepperoni",
        "Vegetable lasagna 38 oz",
        "Chicken nuggets 29 oz",
        "Ice cream, vanilla 1.5 qt",
        "Frozen peas 12 oz",
        "Waffles 10 ct",
    ],
    "Household > Cleaning": [
        "Dish soap 24 fl oz",
        "Laundry detergent 100 fl oz",
        "Paper towels 6 rolls",
        "Toilet paper 12 rolls",
        "Trash bags 45 ct",
        "All-purpose cleaner 32 fl oz",
        "Kitchen sponges 3 ct",
    ],
    "Household > Baby": ["Diapers, size 3 84 ct", "Baby wipes 216 ct", "Infant formula 22 oz"],
    "Pet > Cat and dog": [
        "Dry cat food 7 lb",
        "Dog treats 12 oz",
        "Clumping cat litter 25 lb",
        "Canned dog food 13 oz",
    ],
    "Health > Personal care": [
        "Toothpaste, mint 6 oz",
        "Shampoo for dry hair 12 fl oz",
        "Bar soap 8 ct",
        "Hand lotion 8 fl oz",
        "First aid bandages 60 ct",
    ],
}
BRANDS = ["Meadowbrook", "Hearth & Mill", "Sunny Row", "Tidewater", "Copper Pot", "Larkspur"]
COMPANIONS = {
    "Spaghetti 16 oz": "Marinara sauce 24 oz",
    "Tortilla chips 13 oz": "Salsa, medium 16 oz",
    "Ground coffee, dark roast 12 oz": "Coffee filters 100 ct",
    "Peanut butter, creamy 16 oz": "Strawberry jam 18 oz",
    "Diapers, size 3 84 ct": "Baby wipes 216 ct",
    "Pancake mix 32 oz": "Maple syrup 8 fl oz",
    "Hamburger buns 8 ct": "Ground beef 80% lean 1 lb",
    "Plain bagels 6 ct": "Cream cheese 8 oz",
    "Dry cat food 7 lb": "Clumping cat litter 25 lb",
    "Penne rigate 16 oz": "Alfredo sauce 15 oz",
}
DESCRIPTIONS = {
    "Sourdough bread": "Baked overnight with a slow starter.",
    "Gala apples 3 lb": "Sweet and crisp.",
    "Marinara sauce 24 oz": "Tomatoes, garlic and basil. No added sugar.",
    "Granola with almonds 12 oz": "Toasted oats with almonds. Contains nuts.",
}


@dataclass(frozen=True, eq=False)
class GroceryShop:
    """The tables: items (item_id, title, description, category, brand, price, stock) and events."""

    items: pl.DataFrame
    events: pl.DataFrame


@cache
def make_grocery_shop(seed: int = 2027) -> GroceryShop:
    """Generate the shop, once a process; equal seeds give equal tables."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[object, ...]] = []
    for shelf, goods in SHELVES.items():
        for title in goods:
            number = len(rows)
            brand = None if number % 10 == 9 else BRANDS[int(rng.integers(len(BRANDS)))]
            price = round(float(rng.uniform(0.8, 14)), 2)
            stock = 0 if rng.random() < 0.15 else int(rng.integers(1, 90))
            known = None if number % 12 == 11 else price
            rows.append((100 + number, title, DESCRIPTIONS.get(title), shelf, brand, known, stock))
    schema = {"item_id": pl.Int64, "title": pl.String, "description": pl.String, "category": pl.String,
              "brand": pl.String, "price": pl.Float64, "stock": pl.Int64}  # fmt: skip
    items = pl.DataFrame(rows, schema=schema, orient="row")
    return GroceryShop(items, _events(items, rng))


def _events(items: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    ids = dict(zip(items["title"], items["item_id"], strict=True))
    shelves = dict(zip(items["item_id"], items["category"], strict=True))
    companion = {ids[one]: ids[other] for one, other in COMPANIONS.items()}
    staples = [ids[t] for t in ("Whole milk 1 gal", "Bananas 1 lb", "Whole wheat bread", "Toilet paper 12 rolls")]
    every, names, rows = list(shelves), list(SHELVES), []
    for customer in range(CUSTOMERS):
        tastes = {names[i] for i in rng.permutation(len(names))[:5]}
        own = [item for item in every if shelves[item] in tastes]
        day = float(rng.uniform(0, 7))
        while day < DAYS:
            basket = {staples[int(rng.integers(len(staples)))]}
            basket |= {own[int(i)] for i in rng.integers(len(own), size=int(rng.integers(2, 5)))}
            basket |= {companion[item] for item in list(basket) if item in companion and rng.random() < 0.7}
            when = START + timedelta(seconds=round(day * 86_400))
            rows += [(5000 + customer, item, when, "purchase") for item in sorted(basket)]
            day += 3 + float(rng.exponential(6))
    schema = {"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Datetime("us"), "event": pl.String}
    return pl.DataFrame(sorted(rows, key=lambda row: (row[2], row[0])), schema=schema, orient="row")
