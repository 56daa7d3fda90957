"""A made-up Chinese shop: items, orders, reviews with stars, and questions whose answers its tables hold.

The law of the shop. Eight departments, each with six durable goods of two brands and one consumable: 104 items. A
customer has one taste, a department, and buys one thing a visit:

1. the consumable of their taste, if 30 days or more have passed since they last bought it;
2. otherwise, with probability `FOLLOW`, the next good of the brand of the good that they bought last;
3. otherwise any good, `LOYALTY` of the chance on their own department.

So 连衣裙 of one brand is followed by 半身裙 of the same brand (`next_of`): what goes with what is known. Half of the
purchases are reviewed some days later. An item has a share of satisfied buyers of its own (`quality_of`, between .35
and .97); a satisfied buyer gives four or five stars and praises one to three aspects, another gives one or two stars
and complains of one or two. One review in seven has a sentence of the other kind as well. `slips` are reviews whose
stars contradict their text: the buyer took one star for the best.

No sentence of a review, and no question, names a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

CUSTOMERS, DAYS, FOLLOW, LOYALTY = 160, 300, 0.6, 0.85
START = datetime(2026, 1, 1)

# Department: its goods in the order in which they follow each other, the consumable, the two brands, a usual price.
DEPARTMENTS: dict[str, tuple[list[str], str, tuple[str, str], float]] = {
    "服装 > 女装": (
        ["连衣裙", "半身裙", "针织开衫", "真丝衬衫", "羊毛大衣", "牛仔裤"],
        "衣物除毛器替换头",
        ("素锦", "云裳"),
        259,
    ),
    "美妆 > 护肤": (["洗面奶", "爽肤水", "精华液", "保湿面霜", "防晒霜", "眼霜"], "补水面膜", ("花间", "雪肌"), 119),
    "家电 > 厨房": (["电饭煲", "电热水壶", "破壁机", "空气炸锅", "电磁炉", "烤箱"], "净水滤芯", ("厨韵", "食光"), 349),
    "母婴 > 喂养": (
        ["玻璃奶瓶", "奶瓶刷", "温奶器", "婴儿餐椅", "辅食碗", "学饮杯"],
        "婴儿纸尿裤",
        ("贝贝", "小象"),
        89,
    ),
    "茶 > 茶具": (["紫砂茶壶", "品茗杯", "茶盘", "茶叶罐", "公道杯", "茶刀"], "龙井茶叶", ("清和", "山语"), 158),
    "运动 > 户外": (["双人帐篷", "羽绒睡袋", "防潮垫", "露营灯", "折叠椅", "登山杖"], "气罐", ("远山", "行野"), 199),
    "数码 > 配件": (
        ["无线耳机", "充电宝", "手机支架", "蓝牙音箱", "机械键盘", "静音鼠标"],
        "干电池",
        ("极点", "声波"),
        169,
    ),
    "宠物 > 猫": (
        ["猫爬架", "自动喂食器", "猫砂盆", "宠物饮水机", "逗猫棒", "航空箱"],
        "豆腐猫砂",
        ("喵屋", "毛球"),
        99,
    ),
}

# Words that name each aspect, and what satisfied and dissatisfied buyers say of it; `{}` is the item's noun.
ASPECTS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "质量": (
        ["质量", "做工", "材质"],
        [
            "质量非常好，做工也很精细",
            "{}的材质摸起来很舒服，质量超出预期",
            "用了半个月，质量依然很稳定",
            "做工扎实，没有任何瑕疵",
        ],
        [
            "质量太差了，用了两天就坏了",
            "{}的做工很粗糙，到处都是毛刺",
            "材质很廉价，有一股刺鼻的味道",
            "质量不行，收到就有划痕",
        ],
    ),
    "物流": (
        ["物流", "快递", "包装"],
        ["物流很快，第二天就到了", "快递小哥态度很好，送货上门", "包装很严实，一点都没有磕碰", "发货速度快得惊人"],
        [
            "物流太慢了，等了整整十天",
            "快递把箱子摔破了，包装也很简陋",
            "包装破损，里面的{}都露出来了",
            "一直不发货，催了好几次",
        ],
    ),
    "客服": (
        ["客服", "售后", "服务"],
        ["客服很耐心，有问必答", "售后处理得很及时，服务满意", "客服推荐得很合适，谢谢", "店家服务周到，还送了小礼物"],
        [
            "客服爱理不理，问了半天没有人回",
            "售后推来推去，就是不给退款",
            "服务态度恶劣，再也不会来了",
            "找客服换货，一个星期没有消息",
        ],
    ),
    "价格": (
        ["价格", "性价比", "便宜"],
        [
            "价格实惠，性价比很高",
            "活动的时候买的，便宜又好用",
            "这个价格能买到这样的{}，很值",
            "比实体店便宜不少，性价比不错",
        ],
        [
            "刚买完价格就降了，心里很不舒服",
            "价格虚高，一点都不值",
            "性价比太低，不如去别家买",
            "这个价格买到这种{}，真是上当",
        ],
    ),
    "使用": (
        [],
        [
            "家里人都很喜欢，会再回购",
            "{}很好用，已经推荐给朋友了",
            "和图片上的一样，非常满意",
            "收到以后马上就用了，效果很棒",
        ],
        [
            "和图片完全不一样，非常失望",
            "{}根本没法用，浪费钱",
            "用了一次就不想再用了，后悔买",
            "商品描述是骗人的，不推荐大家买",
        ],
    ),
}
SERIES = ["经典款", "新款"]


@dataclass(frozen=True)
class Question:
    """What a customer asks, and what the tables answer.

    Attributes:
        text: The question.
        intent: price, stock, brand, goes_with, last_order, orders, search, absent (a product that the shop lacks) or
            unknown (what no table holds).
        user_id: Who asks; None for anyone.
        items: The items that a right answer names, one of several is enough.
        value: The right answer: a price, whether it is in stock, a brand, a date; None where `items` say it all.
    """

    text: str
    intent: str
    user_id: str | None
    items: tuple[str, ...]
    value: str | float | bool | None = None


@dataclass(frozen=True, eq=False)
class ChineseShop:
    """The tables as a shop would export them, and what the law says of them.

    Attributes:
        items: item_id, title, description, category, brand, price, stock.
        events: user_id, item_id, timestamp, event (`购买`), value (how many).
        reviews: review_id, user_id, item_id, timestamp, stars, text.
        slips: The ids of the reviews whose stars contradict their text.
        quality_of: The share of satisfied buyers by item.
        next_of: The item that follows each durable good, by item.
    """

    items: pl.DataFrame
    events: pl.DataFrame
    reviews: pl.DataFrame
    slips: frozenset[str]
    quality_of: dict[str, float]
    next_of: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write items.csv, events.csv and reviews.csv into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("items", "events", "reviews"):
            getattr(self, name).write_csv(folder / f"{name}.csv")

    def questions(self) -> list[Question]:
        """Return questions over every department, each with its right answer, always in the same order."""
        return _questions(self)


@cache
def make_chinese_shop(seed: int = 2026) -> ChineseShop:
    """Generate the shop, once a process; equal seeds give equal tables."""
    rng = np.random.default_rng(seed)
    items, next_of = _make_items(rng)
    ids = items["item_id"].to_list()
    quality_of = {item: float(share) for item, share in zip(ids, rng.uniform(0.35, 0.97, len(ids)), strict=True)}
    orders = [row for number in range(CUSTOMERS) for row in _live(f"客{number:03d}", items, next_of, rng)]
    orders.sort(key=lambda row: (row[2], row[0]))
    events = pl.DataFrame(
        [(user, item, _stamp(time), "购买", int(rng.integers(1, 3))) for user, item, time in orders],
        schema=["user_id", "item_id", "timestamp", "event", "value"], orient="row",
    )  # fmt: skip
    reviews, slips = _make_reviews(orders, items, quality_of, rng)
    return ChineseShop(items, events, reviews, slips, quality_of, next_of)


def _make_items(rng: np.random.Generator) -> tuple[pl.DataFrame, dict[str, str]]:
    rows, next_of = [], {}
    for department, (goods, consumable, brands, price) in DEPARTMENTS.items():
        for brand, series in zip(brands, SERIES, strict=True):
            for place, noun in enumerate(goods):
                item = f"p{len(rows):03d}"
                if place + 1 < len(goods):
                    next_of[item] = f"p{len(rows) + 1:03d}"
                cost = round(price * (0.6 + 0.15 * place) * float(rng.uniform(0.9, 1.1)), 1)
                text = f"{brand}{series}{noun}，{department.split(' > ')[1]}人气之选。七天无理由退换。"
                rows.append((item, f"{brand}{series}{noun}", text, department, brand, cost))
        item = f"p{len(rows):03d}"
        text = f"{consumable}，日常消耗，建议定期补货。"
        rows.append((item, f"{brands[0]}{consumable}", text, f"{department} > 耗材", brands[0], round(price * 0.2, 1)))
    items = pl.DataFrame(rows, schema=["item_id", "title", "description", "category", "brand", "price"], orient="row")
    return items.with_columns(stock=pl.Series(rng.random(len(rows)) < 0.85)), next_of


def _live(
    user: str, items: pl.DataFrame, next_of: dict[str, str], rng: np.random.Generator
) -> list[tuple[str, str, datetime]]:
    """Return the purchases of one customer, in order."""
    names = list(DEPARTMENTS)
    departments = items["category"].str.split(" > ").list.head(2).list.join(" > ").to_list()
    consumable = items["category"].str.ends_with("耗材").to_list()
    ids = items["item_id"].to_list()
    taste = names[int(rng.integers(len(names)))]
    own = [item for item, where, used in zip(ids, departments, consumable, strict=True) if where == taste and not used]
    other = [
        item for item, where, used in zip(ids, departments, consumable, strict=True) if where != taste and not used
    ]
    supply = next(
        item for item, where, used in zip(ids, departments, consumable, strict=True) if where == taste and used
    )
    subscriber, supplied, last, owned = rng.random() < 0.5, -30.0, None, set()
    day, rows = float(rng.uniform(0, 90)), []
    while day < DAYS or len(rows) < 3:
        follows = next_of.get(last) if last else None
        if subscriber and day - supplied >= 30:
            item, supplied = supply, day
        elif follows and follows not in owned and rng.random() < FOLLOW:
            item = follows
        else:
            pool = [one for one in (own if rng.random() < LOYALTY else other) if one not in owned] or other
            item = pool[int(rng.integers(len(pool)))]
        if item != supply:
            last = item
        owned.add(item)
        rows.append((user, item, START + timedelta(seconds=round(day * 86_400))))
        day += 1 + float(rng.exponential(22))
    return rows


def _make_reviews(
    orders: Sequence[tuple[str, str, datetime]], items: pl.DataFrame, quality_of: dict[str, float],
    rng: np.random.Generator,
) -> tuple[pl.DataFrame, frozenset[str]]:  # fmt: skip
    noun_of = dict(zip(items["item_id"], items["title"].str.replace(r"^..(经典款|新款)?", ""), strict=True))
    rows, slips = [], set()
    for user, item, time in orders:
        if rng.random() < 0.5:
            continue
        pleased = rng.random() < quality_of[item]
        aspects = [list(ASPECTS)[i] for i in rng.permutation(len(ASPECTS))]
        said = [_say(aspect, pleased, rng) for aspect in aspects[: int(rng.integers(1, 4 if pleased else 3))]]
        if rng.random() < 1 / 7:
            said.append("不过" + _say(aspects[-1], not pleased, rng))
        text = "。".join(said).replace("{}", noun_of[item]) + ("！" if rng.random() < 0.3 else "。")
        stars = int(rng.choice([4, 5], p=[0.3, 0.7]) if pleased else rng.choice([1, 2], p=[0.7, 0.3]))
        review = f"r{len(rows):04d}"
        if pleased and rng.random() < 0.01:
            stars = 1
            slips.add(review)
        rows.append((review, user, item, _stamp(time + timedelta(days=float(rng.uniform(2, 14)))), stars, text))
    schema = ["review_id", "user_id", "item_id", "timestamp", "stars", "text"]
    return pl.DataFrame(rows, schema=schema, orient="row"), frozenset(slips)


def _say(aspect: str, pleased: bool, rng: np.random.Generator) -> str:
    sentences = ASPECTS[aspect][1 if pleased else 2]
    return sentences[int(rng.integers(len(sentences)))]


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


ABSENT = ["笔记本电脑", "汽车轮胎", "钢琴", "登机箱", "冰箱", "自行车", "轮椅", "显微镜"]
UNKNOWN = [
    "你们老板叫什么名字？",
    "今天上海天气怎么样？",
    "可以用信用卡分期付款吗？",
    "你们公司的股票多少钱？",
    "我的包裹现在到哪里了？",
    "店里周末几点关门？",
]


def _questions(shop: ChineseShop) -> list[Question]:
    asked: list[Question] = []
    prices = [
        ("{}多少钱？", "price"),
        ("请问{}的价格是多少", "price"),
        ("{}还有货吗？", "stock"),
        ("{}现在能买到吗", "stock"),
        ("{}是什么牌子的？", "brand"),
        ("买了{}还可以搭配什么？", "goes_with"),
    ]
    for number, row in enumerate(shop.items.iter_rows(named=True)):
        words, intent = prices[number % len(prices)]
        item = row["item_id"]
        if intent == "goes_with" and item not in shop.next_of:
            continue
        found = (shop.next_of[item],) if intent == "goes_with" else (item,)
        value = {"price": row["price"], "stock": row["stock"], "brand": row["brand"]}.get(intent)
        asked.append(Question(words.format(row["title"]), intent, None, found, value))
    newest = shop.events.sort("timestamp", maintain_order=True).group_by("user_id", maintain_order=True).last().head(24)
    titles = dict(zip(shop.items["item_id"], shop.items["title"], strict=True))
    for number, order in enumerate(newest.iter_rows(named=True)):
        user, item, day = order["user_id"], order["item_id"], order["timestamp"][:10]
        if number % 2:
            asked.append(Question(f"我上次买{titles[item]}是什么时候？", "last_order", user, (item,), day))
        else:
            asked.append(Question("我最近一次买了什么？", "orders", user, (item,), day))
    for department, (goods, *_rest) in DEPARTMENTS.items():
        for noun in goods[:2]:
            named = pl.col("title").str.ends_with(noun) & (pl.col("category") == department)
            found = tuple(shop.items.filter(named)["item_id"])
            asked.append(Question(f"有没有{noun}卖？", "search", None, found))
    asked += [Question(f"{noun}多少钱？", "absent", None, ()) for noun in ABSENT]
    asked += [Question(text, "unknown", None, ()) for text in UNKNOWN]
    return asked
