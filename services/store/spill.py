"""Copies of sealed blocks for a store that lends its room: what is evicted here can be fetched from there.

Like write-behind, to another host: blocks are copied soon after they are sealed, whole prefixes in their order, and
the other store keeps them like any others, in memory and on its SSD. It knows them by name, so what it has is not
sent again. Nobody waits for it: what can't be kept up with, or comes while that store is away, is not copied.
Nor for its leases: a block can't be evicted while it is on its way, so few are at a time, however slow that store is.
"""

import asyncio
from collections.abc import Iterable, Sequence

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
"""Prefixes on their way at a time, where the arena is large enough."""

SHARE = 8
"""The part of the arena that is leased for copies at most: an eighth, as for those to the SSD."""


class Spill:
    """``run`` is its task."""

    def __init__(self, node: StoreNode, peers: StorePeers, reports: StoreReports, peer: Peer) -> None:
        self._node, self._peers, self._reports, self._peer = node, peers, reports, peer
        self._ledger: Ledger = reports.ledger()
        self._copying: set[asyncio.Task[None]] = set()
        self._took_nothing = False

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(PAUSE_S if self._took_nothing else LOOK_S)
                self._took_nothing = False
                for leaf in self._leaves():
                    await self._room()
                    if self._took_nothing:
                        break
                    task = group.create_task(self._copy(leaf), name=f"copy to {self._peer.store}")
                    self._copying.add(task)
                    task.add_done_callback(self._copying.discard)

    async def _room(self) -> None:
        """Until one more prefix may be on its way."""
        while len(self._copying) >= self._copies:
            await asyncio.wait(self._copying, return_when=asyncio.FIRST_COMPLETED)

    @property
    def _copies(self) -> int:
        return max(1, min(COPIES, self._node.catalog.slots.total // SHARE))

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
        """A prefix from its root on, as many blocks at a time as may be leased."""
        names = self._node.catalog.lineage(leaf)[:NAMES]  # it may have been evicted meanwhile
        most = max(1, self._node.catalog.slots.total // SHARE // self._copies)
        for end in range(most, len(names) + most, most):
            grants = await self._push(names[:end])
            self._took_nothing |= all(grant is Grant.REFUSED for grant in grants)
            if grants[-1] is Grant.REFUSED:
                return

    async def _push(self, names: Sequence[BlockName]) -> Sequence[Grant]:
        """All of these, from the root: whoever takes them keeps them together, and what it has is not sent again."""
        grants: list[Grant] = []
        over = asyncio.Event()
        self._peers.copy(self._peer, names, told=grants.extend, over=over.set)
        await over.wait()
        return grants
