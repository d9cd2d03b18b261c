"""What is equal by its keys and not by its numbers: counted and listed once more, until it is
either explained or told.

How that is decided is in `account`; here it is only done again. An edit of a visitor moves on, and
is settled by the next round. What stands still and contradicts itself is no edit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bridge.sync.checksums import Sums, bucket_of
from bridge.sync.doubts import Pair
from bridge.sync.reconcile.account import Account
from bridge.sync.reconcile.findings import Difference
from bridge.sync.reconcile.listing import bucket, odd, unfound

__all__ = ["Confirmation"]

ROUNDS = 5
"""How often it is tried: a site where the same few keys change all the time never stands still."""


class Confirmation:
    """Goes through the books once more.

    sum_up: the sums of both sides now. enter: list these buckets into an account and look at the
    keys that come up; False when there are too many. settled: the keys that were equal at the last
    look, with what was seen; others add to it and take from it.

    differences: what cannot be explained. riddles: the buckets of it.
    """

    def __init__(
        self,
        sum_up: Callable[[], Account],
        enter: Callable[[Account, Sequence[int]], bool],
        settled: Mapping[str, Pair],
    ) -> None:
        self._sum_up, self._enter, self._settled = sum_up, enter, settled
        self._told: dict[str, Difference] = {}
        self._buckets: dict[int, Difference] = {}

    @property
    def differences(self) -> list[Difference]:
        return [*self._told.values(), *self._buckets.values()]

    @property
    def riddles(self) -> set[int]:
        return set(self._buckets)

    def run(self, account: Account) -> None:
        """Explain or tell what this account leaves open."""
        for key in sorted(account.odd):
            self._told[key] = odd(key)
        open_ = account.open()
        suspected = self._suspected(account)
        missed = {number: {account.missed(number)} for number in open_}
        for _ in range(ROUNDS):
            if not (open_ or suspected):
                return
            again = self._sum_up() if open_ else Account(Sums(), Sums())
            wanted = {number for number in open_ if again.differs(number)}
            wanted |= {bucket_of(key) for key in suspected}
            if not self._enter(again, sorted(wanted)):
                return
            still = self._suspected(again)
            for key in suspected & still:
                if again.entries[key] == account.entries[key]:
                    self._told[key] = unfound(key, again, "")
            for number in open_ & again.open():
                missed[number].add(again.missed(number))
                if again.stands_still(number, account):
                    self._buckets[number] = bucket(number, again)
            open_ = (open_ & again.open()) - self._buckets.keys()
            suspected, account = still - self._told.keys(), again
        for key in suspected:
            self._told[key] = unfound(key, account, "")
        for number in open_:
            # Edits come and go; so many rows too few, every time, are none.
            if len(missed[number]) == 1 and account.missed(number):
                self._buckets[number] = bucket(number, account)

    def _suspected(self, account: Account) -> set[str]:
        """The keys that need another round; what is clear by itself is told."""
        found = account.suspected(self._settled) - self._told.keys()
        for key in list(found):
            unlookable = self._settled[key].unlookable
            if unlookable or key in account.wrong:
                self._told[key] = unfound(key, account, unlookable)
                found.discard(key)
        return found
