"""Token buckets: what may be taken in a time, and what is owed.

A bucket fills at its rate up to its burst. Taking is never refused; a bucket below nothing is a debt.

Whoever leaves and comes back finds what was left, but no debt: behind one address there may be many, and
none of them is to pay for another one.
"""

from collections.abc import Hashable
from typing import NamedTuple


class Bucket:
    """What may still be taken; below nothing it is owed."""

    __slots__ = ("_at", "_level", "_most", "_rate")

    def __init__(self, rate: float, now: float, burst: float | None = None) -> None:
        """It is full; `rate` is a second's, and `burst` what it holds: without it as much as in a second."""
        self._rate = rate
        self._level = self._most = rate if burst is None else burst
        self._at = now

    def spend(self, amount: float, now: float) -> float:
        """Take so much; in how many seconds nothing will be owed."""
        level = self.level(now) - amount
        self._level = level
        self._at = now
        return -level / self._rate if level < 0 else 0.0

    def level(self, now: float) -> float:
        """What is in it."""
        return min(self._most, self._level + (now - self._at) * self._rate)

    def forgive(self, now: float) -> None:
        """Owe nothing any more."""
        self._level = max(0.0, self.level(now))
        self._at = now

    def full(self, now: float) -> bool:
        """Whether it is as if nothing had ever been taken."""
        return self.level(now) >= self._most


class Budget(NamedTuple):
    """What one connection may send, in records and in bytes."""

    records: Bucket
    bytes: Bucket

    def full(self, now: float) -> bool:
        """Whether it is as good as a new one."""
        return self.records.full(now) and self.bytes.full(now)


class Left:
    """Budgets of connections that have gone, for who comes next with the same name or from the same address.

    Without debts each is full again, and forgotten, after as long as its burst takes.
    """

    def __init__(self) -> None:
        self._budgets: dict[Hashable, list[Budget]] = {}

    def put(self, whose: Hashable, budget: Budget, now: float) -> None:
        """Keep it, without what is owed, unless it is full."""
        for bucket in budget:
            bucket.forgive(now)
        if not budget.full(now):
            self._budgets.setdefault(whose, []).append(budget)

    def take(self, whose: Hashable) -> Budget | None:
        """The one that was left last, where there is one."""
        budgets = self._budgets.get(whose)
        if budgets is None:
            return None
        budget = budgets.pop()
        if not budgets:
            del self._budgets[whose]
        return budget

    def sweep(self, now: float) -> None:
        """Forget what has filled up."""
        for whose, budgets in list(self._budgets.items()):
            budgets[:] = [budget for budget in budgets if not budget.full(now)]
            if not budgets:
                del self._budgets[whose]

    def clear(self) -> None:
        """Forget all."""
        self._budgets.clear()
