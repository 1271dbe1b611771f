"""One live session with the host's store: what is asked, and who is told the answer.

Answers go to their owner from the reader itself, never through a task that may have
been cancelled in between: whatever is granted has an owner at that very moment. When
the session ends nothing is owed: the store frees what it held once the worker
is dead or says hello again. Every wait has a deadline; a store that misses one is
treated as gone, because a worker can always compute instead.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvstore.names import BlockName
from kvstore.vocabulary import Allocation, Lease, SlotRef
from scheduler.vocabulary import StoreId, StoreTarget
from services.wire.codec import names_to_wire, store_target_to_wire
from services.wire.errors import WireError
from services.wire.pb.store_pb2 import (
    Acquire,
    Allocate,
    Discard,
    FromStore,
    Push,
    PushEnd,
    Release,
    Seal,
    ToStore,
    Wrote,
)
from services.wire.store_codec import allocated_from_wire, leases_from_wire, refs_to_wire

ANSWER_S = 5.0
"""For an answer that waits for nobody: ten thousand times what it takes; a store that hangs is given up."""


class StoreAway(Exception):
    """There is no session, or it has ended; the caller does without the store."""


@dataclass(slots=True)
class Call:
    """A question and its number. answered: told what came, here and now; true when nothing more will come.

    done: when that is so; StoreAway where the session ends first. late: ends the session, unless the answer comes.
    """

    number: int
    answered: Callable[[FromStore], bool]
    done: asyncio.Future[None]
    late: asyncio.TimerHandle | None = None

    def settle(self) -> None:
        """It is answered."""
        self._expect_no_more()
        if not self.done.done():
            self.done.set_result(None)

    def lose(self, reason: str = "the store went away") -> None:
        self._expect_no_more()
        if not self.done.done():
            self.done.set_exception(StoreAway(reason))
            self.done.exception()  # seen: its waiter may have been cancelled

    def _expect_no_more(self) -> None:
        if self.late is not None:
            self.late.cancel()


class StoreSession:
    """``epoch`` tells this session from every other of this process, and grows.

    say: tells the store something and never waits; False where the store does not keep up, which ends the session.
    """

    def __init__(
        self, store: StoreId, epoch: int, say: Callable[[ToStore], bool], *, answer_s: float = ANSWER_S
    ) -> None:
        self.store = store
        self.epoch = epoch
        self._answer_s = answer_s
        self._say = say
        self.ended = asyncio.Event()
        self.why_ended = "the store does not keep up"
        """Where this end has given it up."""
        self._calls: dict[int, Call] = {}
        self._last_call = 0

    @property
    def live(self) -> bool:
        return not self.ended.is_set()

    async def allocate(
        self,
        names: Sequence[BlockName],
        *,
        last_is_short: bool,
        hold: bool,
        granted: Callable[[list[Allocation]], None],
    ) -> None:
        """Ask for slots to write; ``granted`` owns one grant per name. Raises StoreAway."""

        def answered(message: FromStore) -> bool:
            grants = allocated_from_wire(message.allocated)
            if len(grants) != len(names):
                raise WireError(f"{len(grants)} grants came for {len(names)} names")
            granted(grants)
            return True

        ask = Allocate(names=names_to_wire(names), last_is_short=last_is_short, hold=hold)
        await self._call(ToStore(allocate=ask), answered, 0.0)

    async def acquire(
        self,
        names: Sequence[BlockName],
        *,
        deadline_s: float,
        leased: Callable[[list[Lease]], None],
        handoff: bool = False,
        source: StoreTarget | None = None,
        fetchable: int | None = None,
    ) -> None:
        """Ask for leases; ``leased`` owns each part, in prefix order. Returns after the last part. Raises StoreAway.

        handoff: wait for what others are writing, too. source: fetch from there what is found nowhere here of the
        first ``fetchable`` names; None: of all.
        """

        def answered(message: FromStore) -> bool:
            leased(leases_from_wire(message.acquired))
            return message.acquired.done

        ask = Acquire(
            names=names_to_wire(names),
            deadline_s=deadline_s,
            handoff=handoff,
            source=store_target_to_wire(source),
            fetchable=fetchable,
        )
        await self._call(ToStore(acquire=ask), answered, deadline_s)

    def push(self, target: StoreTarget, names: Sequence[BlockName], *, last_is_short: bool) -> Call:
        """Send these blocks on as they are written, until ``push_end``. The answer says only that they are awaited."""
        push = Push(target=store_target_to_wire(target), names=names_to_wire(names), last_is_short=last_is_short)
        return self._ask(ToStore(push=push), lambda message: True)

    def push_end(self, push: Call) -> None:
        """Whether it was answered or not."""
        self._calls.pop(push.number, None)
        self._send(ToStore(push_end=PushEnd(push=push.number)))

    def wrote(self, refs: Sequence[SlotRef], first_layer: int, layers: int) -> None:
        """These layers of these slots are complete."""
        if refs and layers:
            self._send(ToStore(wrote=Wrote(slots=refs_to_wire(refs), first_layer=first_layer, layers=layers)))

    def seal(self, refs: Sequence[SlotRef], checksums: Sequence[int]) -> None:
        """Written whole. Whether the store still wanted it is of no consequence here, so no answer is asked for."""
        if refs:
            self._send(ToStore(seal=Seal(slots=refs_to_wire(refs), checksums=checksums)))

    def discard(self, refs: Sequence[SlotRef]) -> None:
        """Granted, and not going to be sealed."""
        if refs:
            self._send(ToStore(discard=Discard(slots=refs_to_wire(refs))))

    def release(self, refs: Sequence[SlotRef]) -> None:
        """One lease each."""
        if refs:
            self._send(ToStore(release=Release(slots=refs_to_wire(refs))))

    def answered(self, message: FromStore) -> None:
        """The reader's: pass on one message. Raises WireError for what no correct store sends."""
        call = self._calls.get(message.call)
        if call is None:
            return
        if call.answered(message):
            del self._calls[message.call]
            call.settle()

    def end(self) -> None:
        """Nothing more is sent or answered; whoever waits gets StoreAway. Idempotent."""
        self.ended.set()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.lose()

    async def _call(self, message: ToStore, answered: Callable[[FromStore], bool], store_waits_s: float) -> None:
        """The deadline is the call's, not its waiter's: a store that misses it is gone, though the waiter has left."""
        call = self._ask(message, answered)
        wait_s = store_waits_s + self._answer_s
        if not call.done.done():
            call.late = asyncio.get_running_loop().call_later(wait_s, self._too_late, call, wait_s)
        await asyncio.shield(call.done)  # stays a call when its waiter leaves: its answer has an owner

    def _too_late(self, call: Call, wait_s: float) -> None:
        self.why_ended = f"the store did not answer within {wait_s:.3g} s"
        call.lose(self.why_ended)
        self.end()

    def _ask(self, message: ToStore, answered: Callable[[FromStore], bool]) -> Call:
        self._last_call += 1
        message.call = self._last_call
        call = Call(message.call, answered, asyncio.get_running_loop().create_future())
        if self.live:
            self._calls[call.number] = call
            self._send(message)
        else:
            call.lose()
        return call

    def _send(self, message: ToStore) -> None:
        if self.live and not self._say(message):
            self.end()
