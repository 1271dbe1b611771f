"""What stores are believed to be sending and receiving: seconds of copying promised and not yet over.

Reports do not tell it, so it is booked: a placement adds the seconds of its fetch and its push at both
ends, and they count until their predicted end, or until the request's outcome takes them back. The sums are
columns of the stores' table, where a placement reads them.
"""

import heapq
from dataclasses import dataclass

from scheduler.table import NOBODY, Table
from scheduler.vocabulary import RequestId, StoreId

NOTHING_S = 1e-9
"""What is left of a sum when all is taken back again, by rounding."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What a copy takes of the sender's link and of the receiver's: a fast one is busy for less time than a slow."""

    source: StoreId
    target: StoreId
    sends_s: float
    receives_s: float

    @property
    def seconds(self) -> float:
        """What it takes alone."""
        return max(self.sends_s, self.receives_s)


class Links:
    """Backlogs of the stores of one table, in its columns ``sends_s`` and ``receives_s``."""

    def __init__(self, stores: Table[StoreId]) -> None:
        self._stores = stores
        self._booked: dict[RequestId, list[Copy]] = {}
        self._ends: list[tuple[float, int, RequestId, Copy]] = []
        self._count = 0

    def book(self, request: RequestId, copies: list[Copy], *, now: float) -> None:
        """Each ends once those booked before it at either end, and it itself, are through."""
        for copy in copies:
            self._add(copy, 1.0)
            through_s = max(self._backlog_s(copy.source, "sends_s"), self._backlog_s(copy.target, "receives_s"))
            self._count += 1
            heapq.heappush(self._ends, (now + max(through_s, copy.seconds), self._count, request, copy))
            self._booked.setdefault(request, []).append(copy)

    def unbook(self, request: RequestId) -> None:
        for copy in self._booked.pop(request, ()):
            self._add(copy, -1.0)

    def expire(self, *, now: float) -> None:
        """Take away what should be over by now."""
        while self._ends and self._ends[0][0] <= now:
            _, _, request, copy = heapq.heappop(self._ends)
            copies = self._booked.get(request, [])
            if copy in copies:
                copies.remove(copy)
                self._add(copy, -1.0)
                if not copies:
                    del self._booked[request]

    def _backlog_s(self, store: StoreId, end: str) -> float:
        row = self._stores.row(store)
        return 0.0 if row == NOBODY else float(self._stores.rows[end][row])

    def _add(self, copy: Copy, times: float) -> None:
        for store, end, seconds in (
            (copy.source, "sends_s", copy.sends_s),
            (copy.target, "receives_s", copy.receives_s),
        ):
            row = self._stores.row(store)
            if row != NOBODY:  # its host may have gone, and come back with nothing to send
                left = self._stores.rows[end][row] + times * seconds
                self._stores.rows[end][row] = left if left > NOTHING_S else 0.0
