"""Copies of sealed blocks for a store that lends its room: what is evicted here can be fetched from there.

Like write-behind, to another host: blocks are copied soon after they are sealed, whole prefixes in their order, and
the other store keeps them like any others, in memory and on its SSD. It knows them by name, so what it has is not
sent again. Nobody waits for it: what can't be kept up with, or comes while that store is away, is not copied.
"""

import asyncio
from collections.abc import Iterable

from kvstore.frames import NAMES, Grant
from kvstore.names import BlockName
from kvstore.vocabulary import Peer
from services.store.node import StoreNode
from services.store.peers import StorePeers
from services.store.reports import Ledger, StoreReports

LOOK_S = 0.5
"""How often there is a look at what was sealed: a prefix that is being computed goes in few pieces then."""

PAUSE_S = 5.0
"""After the other store took nothing."""

COPIES = 4
"""Prefixes on their way at a time."""


class Spill:
    """``run`` is its task."""

    def __init__(self, node: StoreNode, peers: StorePeers, reports: StoreReports, peer: Peer) -> None:
        self._node, self._peers, self._reports, self._peer = node, peers, reports, peer
        self._ledger: Ledger = reports.ledger()
        self._room = asyncio.Semaphore(COPIES)
        self._took_nothing = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S if self._took_nothing else LOOK_S)
            self._took_nothing = False
            for leaf in self._leaves():
                await self._copy(leaf)
                if self._took_nothing:
                    break

    def _leaves(self) -> Iterable[BlockName]:
        """The ends of the prefixes that have grown since the last look."""
        self._reports.gather()
        grown = list(self._ledger.dram.gained)
        self._ledger.clear()
        inner: set[BlockName] = set()
        leaves = []
        for name in reversed(grown):  # later ones are further from their roots
            if name not in inner:
                leaves.append(name)
                inner.update(self._node.catalog.lineage(name))
        return reversed(leaves)

    async def _copy(self, leaf: BlockName) -> None:
        names = self._node.catalog.lineage(leaf)[:NAMES]  # it may have been evicted meanwhile
        if names:
            await self._room.acquire()
            self._peers.copy(self._peer, names, told=self._told, over=self._room.release)

    def _told(self, grants: Iterable[Grant]) -> None:
        self._took_nothing |= all(grant is Grant.REFUSED for grant in grants)
