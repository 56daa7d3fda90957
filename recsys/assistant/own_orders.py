"""Answers about the orders of the one who asks, and of nobody else."""

from __future__ import annotations

from recsys.assistant.building import MOST, AnswerBuilder, Question
from recsys.assistant.conditions import names_other_time
from recsys.assistant.facts import Answer, Fact
from recsys.assistant.orders import Purchase


class OwnOrders(AnswerBuilder):
    """Answers from the purchases of one user."""

    def _purchases_of(self, question: Question) -> list[Purchase] | Answer:
        """Return the purchases of the one who asks, newest first, or the answer that says why they cannot be told."""
        if question.user_id is None:
            return self.hand_over("sign_in", question.intent)
        if not self._purchases.known:
            return self.hand_over("kinds", question.intent)
        purchases = self._purchases.of_user(question.user_id)
        if not purchases:
            return self.hand_over("no_orders", question.intent)
        period = question.period
        if names_other_time(question.text, self._language):
            return self.hand_over("time", question.intent)
        if period is not None:
            if not self._purchases.dated:
                return self.hand_over("undated", question.intent)
            purchases = [one for one in purchases if period.holds(self._purchases.day(one.time))]
        return purchases

    def _dated(self, purchase: Purchase) -> Fact:
        day = self._purchases.day(purchase.time).isoformat()
        order_id = self._purchases.order_id(purchase.time)
        return self.fact("date", purchase.row, day, day, order_ids=(order_id,))

    def last_order(self, question: Question) -> Answer:
        """Tell when a product was last bought."""
        own = self._purchases_of(question)
        if isinstance(own, Answer):
            return own
        mine = [one for one in own if one.row in question.found.rows]
        if not mine:
            return self._never(question)
        if not self._purchases.dated:
            return self.hand_over("undated", question.intent)
        last = mine[0]
        orders = self._purchases.orders([last])
        facts = [self.title_of(last.row), self._dated(last)]
        text = self.say("last_order", title=facts[0].text, date=facts[1].text)
        return self.build("answered", question.intent, text, [last.row], facts, orders)

    def _never(self, question: Question) -> Answer:
        if question.period is not None:
            return self.build("answered", question.intent, self.say("no_orders_in"))
        rows = question.found.rows[:MOST]
        titles, facts = self.name_items(rows)
        none = [self.fact("times", row, 0, "0") for row in rows]
        return self.build("answered", question.intent, self.say("never", title=titles), rows, [*facts, *none])

    def times_bought(self, question: Question) -> Answer:
        """Tell how often a product was bought."""
        own = self._purchases_of(question)
        if isinstance(own, Answer):
            return own
        row = next((one.row for one in own if one.row in question.found.rows), None)
        if row is None:
            return self._never(question)
        if not self._purchases.dated:
            return self.hand_over("undated", question.intent)
        mine = [one for one in own if one.row == row]
        orders = self._purchases.orders(mine)
        ids = tuple(order.order_id for order in orders)
        facts = [self.title_of(row), self._dated(mine[0]), self.fact("times", row, len(mine), str(len(mine)),
                                                                            order_ids=ids)]  # fmt: skip
        sentence = "once_bought" if len(mine) == 1 else "times_bought"
        text = self.say(sentence, title=facts[0].text, date=facts[1].text, times=facts[2].text)
        return self.build("answered", question.intent, text, [row], facts, orders)

    def orders(self, question: Question) -> Answer:
        """Tell the newest order, or what was bought in a month or a year."""
        own = self._purchases_of(question)
        if isinstance(own, Answer):
            return own
        if not self._purchases.dated:
            return self.hand_over("undated", question.intent)
        if question.found.rows:
            own = [one for one in own if one.row in question.found.rows]
            if not own and question.period is None:
                return self._never(question)
        elif question.found.named:
            return self.refuse("product", question.intent)
        if question.period is None:
            newest = [one for one in own if one.time == own[0].time]
            titles, facts = self.name_items([one.row for one in newest])
            orders = self._purchases.orders(newest)
            dated = self._dated(newest[0])
            text = self.say("orders", date=dated.text, titles=titles)
            return self.build("answered", question.intent, text, [o.row for o in newest], [dated, *facts], orders)
        if not own:
            return self.build("answered", question.intent, self.say("no_orders_in"))
        shown = own[:MOST]
        orders = self._purchases.orders(shown)
        facts = [fact for one in shown for fact in (self.title_of(one.row), self._dated(one))]
        pairs = zip(facts[::2], facts[1::2], strict=True)
        listed = [self.say("dated_title", title=title.text, date=day.text) for title, day in pairs]
        text = self.say("orders_in", titles=self._language.join(listed))
        rows = list(dict.fromkeys(one.row for one in shown))
        return self.build("answered", question.intent, text, rows, facts, orders)
