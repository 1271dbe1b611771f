"""Copies of sealed blocks for a store that lends its room: what is evicted here can be fetched from there.

Like write-behind, to another host: blocks are copied soon after they are sealed, whole prefixes in their order, and
the other store keeps them like any others, in memory and on its SSD. It knows them by name, so what it has is not
sent again. Nobody waits for it, nor for its leases: a block can't be evicted while it is on its way, so few are at a
time, however slow that store is. When it took nothing, or broke off, it is asked again after a pause, and then offered
what it may have missed or lost, whatever grew last first: what is still held here goes, and the rest is forgotten.
"""

import asyncio
from collections import OrderedDict, deque
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
"""After the other store took nothing, or broke off; twice as long each time in a row, up to LONGEST_PAUSE_S."""

LONGEST_PAUSE_S = 60.0
"""A store that is away for hours is one line a minute in the log."""

KNOWN = 262_144
"""Names of prefixes that are remembered, to be offered to a store that comes back: 20 MB at most. Prefixes that grew
longest ago are forgotten first."""

AGAIN = 16
"""Prefixes of these at one look: a store that is back has more to do than to look at names."""

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
        self._known: OrderedDict[BlockName, Sequence[BlockName]] = OrderedDict()
        """By their ends; what grew last is last."""
        self._names = 0  # in these
        self._again: deque[BlockName] = deque()  # of these, to be offered once more
        self._failed = False
        self._pause_s = PAUSE_S

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(LOOK_S)
                if self._failed:
                    await asyncio.sleep(self._pause_s)
                for leaf in self._due():
                    await self._room()
                    if self._failed:
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
        """One, as long as the last that ended went wrong: each would say so in the log."""
        most = COPIES if self._pause_s == PAUSE_S else 1
        return max(1, min(most, self._node.catalog.slots.total // SHARE))

    def _due(self) -> Iterable[BlockName]:
        """The ends of the prefixes to be offered now: those that have grown, then some of those that were known."""
        grown = self._grown()
        if self._failed:
            self._failed, self._again = False, deque(reversed(self._known))
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        again = [self._again.popleft() for _ in range(min(AGAIN, len(self._again)))]
        return dict.fromkeys([*grown, *again])

    def _grown(self) -> Sequence[BlockName]:
        """The ends of the prefixes that have grown since the last look, known from now on."""
        self._reports.gather()
        grown = list(self._ledger.dram.gained)
        self._ledger.clear()
        inner: set[BlockName] = set()
        prefixes = []
        for name in reversed(grown):  # later ones are further from their roots
            if name not in inner and (prefix := self._node.catalog.lineage(name)[:NAMES]):
                prefixes.append(prefix)
                inner.update(prefix)
        for name in inner:
            self._forget(name)
        for prefix in reversed(prefixes):
            self._known[prefix[-1]] = prefix
            self._names += len(prefix)
        while self._names > KNOWN:
            self._forget(next(iter(self._known)))
        return [prefix[-1] for prefix in reversed(prefixes)]

    def _forget(self, leaf: BlockName) -> None:
        """It has grown, or is gone, or there are too many; fine if it is not known."""
        self._names -= len(self._known.pop(leaf, ()))

    def _held(self, leaf: BlockName) -> Sequence[BlockName]:
        """What is still held of a known prefix; its tail goes first."""
        for name in reversed(self._known.get(leaf, ())):
            if held := self._node.catalog.lineage(name):
                return held
        self._forget(leaf)
        return ()

    async def _copy(self, leaf: BlockName) -> None:
        """A prefix from its root on, as many blocks at a time as may be leased."""
        names = self._held(leaf)[:NAMES]
        most = max(1, self._node.catalog.slots.total // SHARE // self._copies)
        for end in range(most, len(names) + most, most):
            grants, whole = await self._push(names[:end])
            self._failed |= not whole or all(grant is Grant.REFUSED for grant in grants)
            if self._failed or grants[-1] is Grant.REFUSED:
                return
            self._pause_s = PAUSE_S

    async def _push(self, names: Sequence[BlockName]) -> tuple[Sequence[Grant], bool]:
        """All of these, from the root: whoever takes them keeps them together, and what it has is not sent again.

        What was granted, and whether it got there.
        """
        grants: list[Grant] = []
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._peers.copy(self._peer, names, told=grants.extend, over=over.set_result)
        return grants, await over
