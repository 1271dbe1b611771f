"""The two ends of a call on a connection: blocks leave at one, and come at the other.

Each is a port's flow, whose methods any thread may call, and the state of that call, which only the
connection's thread touches. Nothing is written but to slots that were granted to this very call, and to none of
them once its block is done.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

from kvstore.arriving import Arriving, parcels
from kvstore.checksum import slot_checksum
from kvstore.frames import SHARING, Done, End, Frame, GivenUp, Grant, Granted, Offer, Release, Sealed, Slices, Want
from kvstore.framing import BadFrame, encode
from kvstore.layout import KvLayout
from kvstore.names import BlockName
from kvstore.tcp_lane import Connection
from kvstore.transfer import Failure, InflowEvents, OutflowEvents, Reason

PORTION_BYTES = 8 << 20
"""What is sent before other calls have their turn and answers are read: 2 ms at 4 GB/s."""


class Outgoing:
    """An ``Outflow``: a push of ours, or what a peer fetches. (``events`` is set before anything happens.)"""

    events: OutflowEvents

    def __init__(self, connection: Connection, names: int, *, number: int, deadline: float | None) -> None:
        """names: how many. deadline: for the grants of a push, monotonic seconds; None: a fetch, all of it wanted."""
        self.deadline = deadline
        self._connection = connection
        self._names = names
        self._is_push = deadline is not None
        self._number = number
        self._begun = False
        self._done: set[int] = set()
        self._over = False  # written by any thread: no more is sent

    def offer(self, names: Sequence[BlockName], *, last_is_short: bool) -> None:
        """Begin a push."""
        self._post(partial(self._offer, Offer(self._number, tuple(names), last_is_short)))

    # The flow

    def send(self, positions: Sequence[int], slots: Sequence[int], layers: range) -> None:
        start, size = region(self._connection.layout, layers)
        most = max(1, PORTION_BYTES // size)
        frames = -(-len(positions) // most)
        step = -(-len(positions) // max(1, frames))  # about equal: a small one costs as many wake-ups as a large one
        for first in range(0, len(positions), step):
            chosen = tuple(positions[first : first + step])
            self._post(partial(self._send, chosen, slots[first : first + step], layers, start, size))

    def done(self, positions: Sequence[int], checksums: Sequence[int]) -> None:
        self._post(partial(self._finish, Done(self._number, tuple(positions), tuple(checksums))))

    def give_up(self, positions: Sequence[int]) -> None:
        self._post(partial(self._tell, GivenUp(self._number, tuple(positions))))

    def end(self, reason: str = "") -> None:
        self._over = True
        last = Release(self._number) if self._is_push else End(self._number, reason)
        self._post(partial(self._end, last, None))

    # In the connection's thread

    def handle(self, frame: Frame) -> None:
        match frame:
            case Granted(_, grants) if self._is_push and self.deadline is not None:
                if len(grants) != self._names:
                    raise BadFrame(f"{self._names} names were answered with {len(grants)} grants")
                self.deadline = None
                self.events.granted(grants)
            case Sealed(_, positions, sealed):
                if len(positions) != len(sealed) or not self._done.issuperset(positions):
                    raise BadFrame("blocks are answered for that were not sent")
                self._done.difference_update(positions)
                self._connection.expect(-len(positions))
                self.events.sealed(positions, sealed)
            case Release() if not self._is_push:
                self._connection.forget(self._number, None)
            case _:
                raise BadFrame(f"{type(frame).__name__} has no place where blocks leave")

    def overdue(self) -> None:
        self._over = True
        failure = Failure(Reason.DEADLINE, "the peer has not answered the offer in time")
        if self._begun:
            self._end(Release(self._number), failure)
        else:
            self._connection.forget(self._number, failure)

    def ended(self, failure: Failure | None) -> None:
        self._over = True
        self._connection.expect(-len(self._done))
        self._done.clear()
        self.events.ended(failure)

    def _post(self, command: Callable[[], None]) -> None:
        self._connection.post(self._number, command)

    def _offer(self, frame: Offer) -> None:
        self._begun = True
        self._connection.send([encode(frame)])

    def _send(self, positions: tuple[int, ...], slots: Sequence[int], layers: range, start: int, size: int) -> None:
        if self._over:
            return
        arena, slot_bytes = self._connection.arena, self._connection.layout.slot_bytes
        begins = [slot * slot_bytes + start for slot in slots]
        traffic, bulk_bytes = self._connection.traffic, size * len(positions)
        with traffic.meter.sending() as sharing:
            frame = Slices(self._number, positions, layers.start, len(layers), bulk_bytes, min(sharing, SHARING))
            self._connection.send([encode(frame), *[arena[begin : begin + size] for begin in begins]])
        traffic.add(sent=bulk_bytes)

    def _finish(self, frame: Done) -> None:
        if not self._over:
            self._connection.expect(len(frame.positions))
            self._done.update(frame.positions)
            self._connection.send([encode(frame)])

    def _tell(self, frame: GivenUp) -> None:
        if not self._over:
            self._connection.send([encode(frame)])

    def _end(self, frame: Release | End, failure: Failure | None) -> None:
        self._over = True
        self._connection.send([encode(frame)])
        self._connection.forget(self._number, failure)


class Incoming:
    """An ``Inflow``: a peer's push, or a fetch of ours. (``events`` is set before anything happens.)"""

    events: InflowEvents

    def __init__(self, connection: Connection, names: int, *, number: int, deadline: float | None) -> None:
        """names: how many. deadline: of a fetch, monotonic seconds; None for a push."""
        self.deadline = deadline
        self._connection = connection
        self._names = names
        self._is_push = deadline is None
        self._number = number
        self._begun = False
        self._arriving = Arriving()
        self._slots: list[int | None] = [None] * names  # None: not granted, or done

    def want(self, names: Sequence[BlockName], slots: Sequence[int]) -> None:
        """Begin a fetch."""
        self._slots = list(slots)
        self._connection.post(self._number, partial(self._want, tuple(names)))

    # The flow

    def grant(self, grants: Sequence[Grant], slots: Sequence[int | None]) -> None:
        self._connection.post(self._number, partial(self._grant, tuple(grants), list(slots)))

    def sealed(self, positions: Sequence[int], sealed: Sequence[bool]) -> None:
        frame = Sealed(self._number, tuple(positions), tuple(sealed))
        self._connection.post(self._number, lambda: self._connection.send([encode(frame)]))

    def stop(self) -> None:
        self._connection.post(self._number, partial(self._stop, Failure(Reason.CLOSED, "this store stopped it")))

    # In the connection's thread

    def handle(self, frame: Frame) -> None:
        match frame:
            case Slices():
                self._take(frame)
            case Done(_, positions, checksums):
                self._arrived(positions, checksums)
            case GivenUp(_, positions):
                self._give_back(positions)
                self.events.given_up(positions)
            case Release() if self._is_push:
                self._connection.forget(self._number, None)
            case End(_, reason) if not self._is_push:
                self._connection.forget(self._number, Failure(Reason.MISSING, reason) if reason else None)
            case _:
                raise BadFrame(f"{type(frame).__name__} has no place where blocks come")

    def overdue(self) -> None:
        self._stop(Failure(Reason.DEADLINE, "the peer has not sent all of it in time"))

    def ended(self, failure: Failure | None) -> None:
        self._slots = [None] * self._names
        self.events.ended(failure)

    def _want(self, names: tuple[BlockName, ...]) -> None:
        assert self.deadline is not None, "a fetch has a deadline"
        self._begun = True
        left_s = max(0.0, self.deadline - time.monotonic())
        self._connection.send([encode(Want(self._number, names, left_s))])

    def _grant(self, grants: tuple[Grant, ...], slots: list[int | None]) -> None:
        assert len(grants) == len(slots) == self._names, "one grant and one slot or none for each name"
        self._slots = slots
        self._connection.send([encode(Granted(self._number, grants))])

    def _take(self, frame: Slices) -> None:
        connection = self._connection
        layout = connection.layout
        if frame.layers < 1 or frame.first_layer + frame.layers > layout.layers:
            raise BadFrame(f"a block has {layout.layers} layers")
        start, size = region(layout, range(frame.first_layer, frame.first_layer + frame.layers))
        if frame.bulk_bytes != size * len(frame.positions):
            raise BadFrame("slices are not as long as their layers")
        layers = range(frame.first_layer, frame.first_layer + frame.layers)
        begins = [self._slot(position) * layout.slot_bytes + start for position in frame.positions]
        digests = [self._arriving.expect(position, layers) for position in frame.positions]
        views = [connection.arena[begin : begin + size] for begin in begins]
        with connection.flowing(frame):
            for parcel in parcels(list(zip(digests, views, strict=True))):
                connection.receive([view for _, view in parcel])
                for digest, view in parcel:
                    if digest is not None:
                        digest.update(view)
        connection.traffic.add(received=frame.bulk_bytes)

    def _arrived(self, positions: Sequence[int], checksums: Sequence[int]) -> None:
        arena, layout = self._connection.arena, self._connection.layout
        slots = self._give_back(positions)
        taken = [self._arriving.checksum(position, layout.layers) for position in positions]
        found = [
            slot_checksum(arena, slot, layout) if ours is None else ours
            for slot, ours in zip(slots, taken, strict=True)
        ]
        self.events.arrived(
            positions, checksums, [ours == theirs for ours, theirs in zip(found, checksums, strict=True)]
        )

    def _give_back(self, positions: Sequence[int]) -> list[int]:
        """Nothing is written to the slots of these from now on."""
        slots = [self._slot(position) for position in positions]
        for position in positions:
            self._slots[position] = None
        return slots

    def _slot(self, position: int) -> int:
        slot = self._slots[position] if position < self._names else None
        if slot is None:
            raise BadFrame(f"block {position} was not granted to this call, or is done")
        return slot

    def _stop(self, failure: Failure) -> None:
        if self._begun:
            self._connection.send([encode(Release(self._number))])
        self._connection.forget(self._number, failure)


def region(layout: KvLayout, layers: range) -> tuple[int, int]:
    """Where these layers begin in a slot, and how many bytes they have there; layers lie one after the other."""
    assert 0 <= layers.start < layers.stop <= layout.layers, f"{layers} of {layout.layers}"
    return layout.layer_offsets[layers.start], sum(layout.layer_bytes[layers.start : layers.stop])
