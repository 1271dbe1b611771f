"""Copies that a conductor has ordered: prefixes that this store fetches before anybody here asks for them.

Each is an errand that acquires the prefix as a worker would, with its source and a deadline, and lets go of it as soon
as it is there; from then on it is held like any other, and the next report tells of it. Nobody waits for it: what does
not come in time, or finds no room, is not copied.
"""

import asyncio
import logging
from collections import OrderedDict
from itertools import count

from kvstore.names import BlockName
from kvstore.vocabulary import Answer, Peer, SessionId, SlotRef
from scheduler.vocabulary import CopyOrder
from services.runtime.logs import fields
from services.store.node import StoreNode

MOST = 4
"""At a time; a conductor orders one, and there are few conductors."""

REMEMBERED = 64
"""Orders that are recognised when they are told again, which they are until the conductor knows of the copy."""

log = logging.getLogger(__name__)


class Copies:
    """``ordered`` is told of every order, however often."""

    def __init__(self, node: StoreNode) -> None:
        self._node = node
        self._known: OrderedDict[tuple[int, BlockName], None] = OrderedDict()
        self._under_way: dict[BlockName, SessionId] = {}
        self._numbers = count(1)

    def ordered(self, order: CopyOrder) -> None:
        leaf = order.names[-1]
        key = (order.id, leaf)
        if key in self._known or leaf in self._under_way or len(self._under_way) >= MOST:
            return
        if self._node.catalog.identity is None:
            return  # the conductor has heard of an earlier life
        self._known[key] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        _Copy(self._node, order, next(self._numbers), self._under_way).begin()


class _Copy:
    """One of them, from its acquire to its end."""

    def __init__(self, node: StoreNode, order: CopyOrder, number: int, under_way: dict[BlockName, SessionId]) -> None:
        self._node, self._order, self._under_way = node, order, under_way
        self._session = SessionId(f"copy {number}")
        self._leased: list[SlotRef] = []

    def begin(self) -> None:
        node, order = self._node, self._order
        self._began = node.clock()
        self._under_way[order.names[-1]] = self._session
        node.catalog.join(self._session, owner=f"copy from {order.source.store}")
        node.errands[self._session] = self._heard
        answers = node.catalog.acquire(
            self._session,
            1,
            order.names,
            deadline=self._began + order.within_s,
            now=self._began,
            source=Peer(order.source.store, order.source.address),
        )
        node.settle(answers)

    def _heard(self, answer: Answer) -> None:
        self._leased += [lease.ref for lease in answer.leases]
        if not answer.done:
            return
        # Not within whatever has brought the last block: its own bookkeeping may not be done yet.
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        node, order = self._node, self._order
        del self._under_way[order.names[-1]], node.errands[self._session]
        node.catalog.release(self._session, self._leased)  # in prefix order, so that it counts as used as a whole
        node.settle(node.catalog.end(self._session, dead=True))
        log.info(
            "copied a hot prefix",
            extra=fields(
                source=order.source.store,
                blocks=len(self._leased),
                of=len(order.names),
                took_s=round(node.clock() - self._began, 3),
            ),
        )
