"""Whether a question asks about somebody other than the one who asks."""

from __future__ import annotations

import re

import polars as pl

from recsys.serving import requests
from recsys.types import Id

_WORD = re.compile(r"[A-Za-z0-9_@.+-]+")
_NAMES_ONE = re.compile(
    r"\b(?:user|customer|client)s?\b[\s#:]*(?P<en>[a-z]*\d[a-z0-9_-]*)"
    r"|(?:用户|顾客|客户|会员|账号|客)\s*[#:：号]*\s*(?P<zh>[a-z]*\d[a-z0-9_-]*)",
    re.IGNORECASE,
)
# Who bought or ordered something, where that is not the one who asks: `what did my sister buy`, `has John ordered`.
_NOT_A_PERSON = (
    r"(?!(?:i|you|we|it|people|customers|others|buyers|they|anyone|anybody|(?:the|this|that|your)\s+(?:shop|store|product|item)"
    r"|(?:other|most)\s+(?:people|customers|buyers)|(?:my|the)\s+(?:last|latest|most|recent|first|previous|order|purchase))\b)"
)
_SOMEBODY = r"(?:(?:my|his|her|their|our|the|a|mr|mrs|ms|dr)\.?\s+)?[a-z]+(?:\s+[a-z]+)?"
_OFTEN = r"(?:(?:ever|usually|often|last|already|recently|just)\s+)*"
_RELATIVE = r"(?:wife|husband|mother|father|son|daughter|brother|sister|boss|neighbou?r|friend|colleague)"
_ASKS_OF = re.compile(
    rf"\b(?:did|does|do)\s+{_NOT_A_PERSON}{_SOMEBODY}\s+{_OFTEN}(?:buy|order|purchase|get)\b"
    rf"|\b(?:has|have|had)\s+{_NOT_A_PERSON}{_SOMEBODY}\s+{_OFTEN}(?:bought|ordered|purchased)\b"
    rf"|\b(?:he|she|my\s+{_RELATIVE})\s+{_OFTEN}(?:buys?|bought|ordered|orders|purchased)\b"
    r"|\bwho\s+(?:else\s+)?(?:has\s+)?(?:bought|buys|ordered|purchased)\b"
    r"|\b(?:names?|e-?mails?|address(?:es)?|phone\s+numbers?)\s+of\s+(?:the\s+|your\s+)?(?:customers?|people|buyers?|users?)",
    re.IGNORECASE,
)
_ASKS_OF_ZH = re.compile(
    r"(?:他|她|他们|她们|别人|邻居|老公|老婆|丈夫|妻子|爸爸|妈妈|父亲|母亲|儿子|女儿|哥哥|姐姐|弟弟|妹妹|朋友|同事|老板|先生|女士|小姐)"
    r"(?:[^，。？?]{0,8})(?:买了|买过|订了|订过|下单|订单|购买|买的)"
    r"|(?:谁|哪些人|哪位顾客|哪些顾客|什么人)(?:都|还)?(?:买|订|下单)|(?:顾客|客户|用户)(?:名单|的电话|的地址|的姓名|的邮箱)"
)
_OTHERS_TOO = re.compile(r"还|一起|搭配")  # what buyers of an item also buy is no one's secret


def speaks_of_others(question: str, user_ids: pl.Series, asking: Id | None) -> bool:
    """Whether a question names a customer that is not the one who asks, known to the bundle or not.

    Args:
        question: The question.
        user_ids: The users of the bundle, ascending.
        asking: Who asks; None where nobody is signed in.
    """
    own = None if asking is None else str(asking).lower()
    named = [match for match in _NAMES_ONE.finditer(question.lower())
             if own not in (match[0], match["en"], match["zh"])]  # fmt: skip
    # A word such as `u029` is a user's id; a bare number or a plain word may mean anything, and is not.
    words = [word.strip(".-") for word in _WORD.findall(question)]
    mixed = [word for word in words if re.search(r"\d", word) and re.search(r"[^\W\d]", word)]
    known = [word for word in mixed if user_ids.dtype == pl.String and requests.find_ids(user_ids, [word])[0] >= 0]
    if _ASKS_OF.search(question) or (_ASKS_OF_ZH.search(question) and not _OTHERS_TOO.search(question)):
        return True
    return bool(named) or any(word.lower() != own for word in known)
