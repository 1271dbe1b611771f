"""Things lent by the store, each with one owner that gives them back exactly once.

The model thread may be reading or writing a slot at the very moment its request ends,
and a slot given back too early is somebody else's. So an owner that is closed gives
back only when no job uses it any more: at once, or at the end of the present step.
Everything here is synchronous, so that no cancellation can interrupt it.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kvstore.vocabulary import Lease
from services.worker.store_session import StoreSession


class Lent(ABC):
    """Closed by its owner, used by jobs; given back once, after both."""

    def __init__(self, session: StoreSession) -> None:
        self.session = session
        self._jobs = 0
        self._closed = False

    @contextmanager
    def used(self) -> Iterator[None]:
        """Around the wait for a job that touches these slots."""
        self._jobs += 1
        try:
            yield
        finally:
            self._jobs -= 1
            self._settle()

    def close(self) -> None:
        """Idempotent. What the store still answers afterwards is given back as it comes."""
        self._closed = True
        self._settle()

    def _settle(self) -> None:
        if self._closed and self._jobs == 0:
            self._give_back()

    @abstractmethod
    def _give_back(self) -> None:
        """Give back all that is held now; called again when more has come."""


class Leases(Lent):
    """The leases of one load, in prefix order, from the store's answers until they are lifted or the request leaves."""

    def __init__(self, session: StoreSession) -> None:
        super().__init__(session)
        self.held: list[Lease] = []
        self.granted = 0
        """How many there have been so far."""
        self._complete = False
        self._news = asyncio.Event()

    def add(self, leases: Sequence[Lease]) -> None:
        """The store's answer, in parts."""
        self.held += leases
        self.granted += len(leases)
        self._news.set()
        self._settle()

    def complete(self) -> None:
        """No more will come."""
        self._complete = True
        self._news.set()

    async def next(self, most: int) -> Sequence[Lease]:
        """The first of those that are held, once there are any; none when no more will come. They stay held."""
        while not self.held and not self._complete:
            self._news.clear()
            await self._news.wait()
        return self.held[:most]

    def release(self, count: int) -> None:
        """So many of the first are lifted, or of no use."""
        given, self.held = self.held[:count], self.held[count:]
        self.session.release(given)

    def _give_back(self) -> None:
        self.release(len(self.held))
