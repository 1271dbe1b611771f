"""What a worker says in its session, message by message, and what it is told.

Messages are handled in the order they came, each at once: an answer, or a wait that
the catalog remembers. Whatever breaks the rules ends the session.
"""

from collections.abc import Sequence

from kvstore.frames import Grant
from kvstore.vocabulary import Peer
from services.store.metrics import StoreMetrics
from services.store.node import StoreNode
from services.store.session import WorkerSession
from services.wire import codec, store_codec
from services.wire.errors import WireError
from services.wire.pb import store_pb2

LONGEST_WAIT_S = 60.0
"""Nobody waits longer for a block, whatever deadline it gives."""


class Conversation:
    """One session's, from its welcome to its end."""

    def __init__(self, node: StoreNode, metrics: StoreMetrics, session: WorkerSession) -> None:
        self._node = node
        self._metrics = metrics
        self._session = session

    def hear(self, message: store_pb2.ToStore) -> None:
        """One message after the hello. Raises WireError for what no correct worker says."""
        match message.WhichOneof("kind"):
            case "allocate":
                self._allocate(message.call, message.allocate)
            case "seal":
                self._seal(message.call, message.seal)
            case "acquire":
                self._acquire(message.call, message.acquire)
            case "release":
                self._node.catalog.release(self._session.id, store_codec.refs_from_wire(message.release.slots))
                self._node.settle()
            case "discard":
                refs = store_codec.refs_from_wire(message.discard.slots)
                self._node.settle(self._node.catalog.discard(self._session.id, refs))
            case "wrote":
                self._wrote(message.wrote)
            case "push":
                self._push(message.call, message.push)
            case "push_end":
                if self._node.peers is not None:
                    self._node.peers.push_end(self._session.id, message.push_end.push)
            case other:
                raise WireError(f"{other} is nothing to say in a session that has begun")

    def _allocate(self, call: int, ask: store_pb2.Allocate) -> None:
        grants = self._node.catalog.allocate(
            self._session.id,
            codec.names_from_wire(ask.names),
            last_is_short=ask.last_is_short,
            hold=ask.hold,
            now=self._node.clock(),
        )
        self._metrics.allocated(grants)
        self._session.send(store_pb2.FromStore(call=call, allocated=store_codec.allocated_to_wire(grants)))
        self._node.settle()

    def _seal(self, call: int, ask: store_pb2.Seal) -> None:
        refs = store_codec.refs_from_wire(ask.slots)
        if len(refs) != len(ask.checksums):
            raise WireError(f"{len(refs)} slots to seal came with {len(ask.checksums)} checksums")
        sealed, answers = self._node.catalog.seal(self._session.id, refs, ask.checksums, now=self._node.clock())
        self._metrics.sealed(sealed)
        if call:  # who gives no number has nothing to do with the answer, and would only be woken by it
            self._session.send(store_pb2.FromStore(call=call, sealed=store_pb2.Sealed(sealed=sealed)))
        self._node.settle(answers)

    def _acquire(self, call: int, ask: store_pb2.Acquire) -> None:
        now = self._node.clock()
        names, deadline = codec.names_from_wire(ask.names), now + min(ask.deadline_s, LONGEST_WAIT_S)
        target = codec.store_target_from_wire(ask.source) if ask.HasField("source") else None
        elsewhere = target is not None and target.store != self._node.name
        source = Peer(target.store, target.address) if target is not None and elsewhere else None
        fetchable = ask.fetchable if ask.HasField("fetchable") else None
        self._node.settle(
            self._node.catalog.acquire(
                self._session.id,
                call,
                names,
                deadline=deadline,
                now=now,
                handoff=ask.handoff,
                source=source,
                fetchable=fetchable,
            )
        )

    def _push(self, call: int, ask: store_pb2.Push) -> None:
        names = codec.names_from_wire(ask.names)
        target = codec.store_target_from_wire(ask.target)

        def told(grants: Sequence[Grant]) -> None:
            self._session.send(store_pb2.FromStore(call=call, pushed=store_codec.pushed_to_wire(grants)))

        if self._node.peers is None:
            told([Grant.REFUSED] * len(names))
            return
        peer = Peer(target.store, target.address)
        self._node.peers.push(self._session.id, call, peer, names, last_is_short=ask.last_is_short, told=told)

    def _wrote(self, ask: store_pb2.Wrote) -> None:
        refs = store_codec.refs_from_wire(ask.slots)
        if self._node.peers is not None:
            self._node.peers.wrote(self._session.id, refs, ask.first_layer, ask.layers)
