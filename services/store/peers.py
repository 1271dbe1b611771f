"""This store among others: what its workers push, what it fetches, and what others push to it and fetch from it.

The event loop decides, an adapter (``kvstore.transfer``) moves bytes in threads of its own. Each push and fetch is
an errand with a session in the catalog, so that whatever it holds ends with it; all of them end with the store.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError

from kvstore.frames import NAMES, Grant
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.transfer import Came, Greeting, Inflow, Outflow, Transfer, TransferRefused
from kvstore.vocabulary import Fetch, Peer, SessionId, SlotRef
from services.runtime.logs import fields
from services.store.node import NoSession, StoreNode
from services.store.peers_allowance import Allowance
from services.store.peers_fetch import Fetching
from services.store.peers_loop import Dealings, InflowOnLoop, OutflowOnLoop, log
from services.store.peers_metrics import TransferMetrics
from services.store.peers_serve import Serving
from services.store.peers_take import Taking
from services.store.push import Pushing
from services.wire.turned_away import TurnedAway

ADOPT_S = 5.0
"""For a store that has no deployment yet to become one of the peer's; it may have an SSD file to search."""

PUSHES = 1024
"""That one worker may have open; it serves fewer requests."""


class StorePeers:
    """The node's ``Peers``, and the adapter's ``Host``."""

    def __init__(self, node: StoreNode, metrics: TransferMetrics, *, per_peer: int, in_all: int) -> None:
        """per_peer, in_all: bytes that may be under way, in each direction."""
        self._node = node
        self._coming = Allowance(per_peer=per_peer, in_all=in_all)
        self._going = Allowance(per_peer=per_peer, in_all=in_all)
        self._dealings = Dealings(node, metrics, self._coming, self._going)
        self._loop = asyncio.get_running_loop()
        self.metrics = metrics
        self._transfer: Transfer | None = None
        self._turned_away = TurnedAway()
        self._pushes: dict[SessionId, dict[int, Pushing]] = {}

    def use(self, transfer: Transfer) -> None:
        """The adapter that asks this host; from now on something can be moved."""
        self._transfer = transfer
        self.metrics.watch(transfer, self._coming, self._going)
        self._node.peers = self

    def came(self) -> tuple[Came, ...]:
        """See ``Transfer``."""
        return () if self._transfer is None else self._transfer.came()

    async def close(self) -> None:
        """End every transfer; no slot is touched any more."""
        self._node.peers = None
        self._dealings.closing = True
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            await asyncio.to_thread(transfer.close)
            await asyncio.sleep(0)  # its last words are heard

    # The node

    def fetch(self, move: Fetch) -> None:
        assert self._transfer is not None, "a node has peers while they have a transfer"
        if self._dealings.is_left_alone(move.peer.store):
            self._loop.call_soon(self._dealings.leave, move.session)
        else:
            Fetching(self._dealings, move, self._transfer).begin()

    def push(
        self,
        session: SessionId,
        call: int,
        peer: Peer,
        names: Sequence[BlockName],
        *,
        last_is_short: bool,
        told: Callable[[Sequence[Grant]], None],
    ) -> None:
        """A worker's push begins. told: called once, soon or late, with a grant for each name."""
        pushes = self._pushes.get(session, {})
        fine = 0 < len(names) <= NAMES and len(pushes) < PUSHES and call not in pushes
        if (
            self._transfer is None
            or peer.store == self._node.name
            or not fine
            or self._dealings.is_left_alone(peer.store)
        ):
            told([Grant.REFUSED] * len(names))
            return
        self._pushes[session] = pushes
        pushes[call] = Pushing(
            self._dealings,
            peer,
            names,
            last_is_short=last_is_short,
            writing=self._node.catalog.written_by(session, names),
            told=told,
            over=lambda whole: self._forget(session, call),
        )
        pushes[call].begin(self._transfer)

    def copy(
        self,
        peer: Peer,
        names: Sequence[BlockName],
        *,
        told: Callable[[Sequence[Grant]], None],
        over: Callable[[bool], None],
    ) -> None:
        """Push blocks that are sealed here to a store that may evict them again as it likes.

        told: called once, with a grant for each name; over: called once, when nothing of it is under way any more;
        whether it went as it was granted, and never broke off.
        """
        if self._transfer is None:
            told([Grant.REFUSED] * len(names))
            over(False)
            return
        writing = [None] * len(names)
        Pushing(
            self._dealings, peer, names, last_is_short=False, writing=writing, told=told, over=over, keep=False
        ).begin(self._transfer)

    def wrote(self, session: SessionId, refs: Sequence[SlotRef], first_layer: int, layers: int) -> None:
        for pushing in self._pushes.get(session, {}).values():
            pushing.wrote(refs, first_layer, layers)

    def push_end(self, session: SessionId, call: int) -> None:
        """Fine if it has ended before."""
        pushing = self._pushes.get(session, {}).get(call)
        if pushing is not None:
            pushing.end()

    def session_ended(self, session: SessionId) -> None:
        """A worker's, with all its pushes."""
        for pushing in list(self._pushes.get(session, {}).values()):
            pushing.end()

    def _forget(self, session: SessionId, call: int) -> None:
        pushes = self._pushes[session]
        del pushes[call]
        if not pushes:
            del self._pushes[session]

    # The adapter's threads

    def greeting(self) -> Greeting:
        identity, layout = self._node.catalog.identity, self._node.catalog.layout
        if identity is None or layout is None:
            raise TransferRefused(f"{self._node.name} serves no deployment yet")
        return Greeting(self._node.name, self._node.incarnation, identity, layout)

    def greeted(self, peer: Greeting) -> Greeting:
        adopting = asyncio.run_coroutine_threadsafe(self._adopt(peer.identity, peer.layout), self._loop)
        try:
            adopting.result(ADOPT_S)
        except NoSession as error:
            raise TransferRefused(str(error)) from error
        except (TimeoutError, CancelledError) as error:
            adopting.cancel()
            raise TransferRefused(f"{self._node.name} is not ready") from error
        ours = self.greeting()
        differences = ours.identity.differences(peer.identity)
        if differences is not None:
            self._loop.call_soon_threadsafe(self._turned_away.say, peer.store, differences)
            raise TransferRefused(differences)
        self._loop.call_soon_threadsafe(self._log_peer, peer)
        return ours

    def turned_away(self, address: str, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._turned_away.say, address, reason)

    def offered(self, peer: str, names: Sequence[BlockName], *, last_is_short: bool, flow: Inflow) -> InflowOnLoop:
        taking = Taking(self._dealings, peer, names, last_is_short=last_is_short, flow=flow)
        self._loop.call_soon_threadsafe(taking.begin)
        return InflowOnLoop(self._loop, taking)

    def wanted(self, peer: str, names: Sequence[BlockName], *, deadline_s: float, flow: Outflow) -> OutflowOnLoop:
        serving = Serving(self._dealings, peer, names, deadline_s=deadline_s, flow=flow)
        self._loop.call_soon_threadsafe(serving.begin)
        return OutflowOnLoop(self._loop, serving)

    async def _adopt(self, identity: Identity, layout: KvLayout) -> None:
        if self._node.catalog.identity is None:
            await self._node.adopt(identity, layout)

    def _log_peer(self, peer: Greeting) -> None:
        log.info("a peer has connected", extra=fields(peer=peer.store, incarnation=f"{peer.incarnation:016x}"))
