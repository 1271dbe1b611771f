"""The conductors as a gateway asks them: in one fixed order, and the first that answers decides.

Whoever lets a question's time run out hangs, or its host is gone. It is asked after all others from then on, until
it answers a question that nobody waits for; so it costs a second to those who were asking it, and nothing to
who comes later. One that was killed refuses connections at once, and needs no such care.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc

from services.gateway.breakers import MOST_REASONS
from services.gateway.reach import Reach
from services.runtime.logs import fields
from services.wire.channel import SOON_S, open_channel
from services.wire.cluster_codec import Cluster, cluster_from_wire
from services.wire.errors import DeadlinePassed, PeerError, PeerUnavailable, PeerUnusable, WireError, answer_to
from services.wire.pb import common_pb2
from services.wire.pb.conductor_pb2_grpc import ConductorStub
from services.wire.tls import Tls

if TYPE_CHECKING:  # this name exists for type checkers only
    from services.wire.pb.conductor_pb2_grpc import ConductorAsyncStub

CONDUCTOR_S = 1.0
"""A conductor answers within microseconds; one that has not in this time is passed over."""

PROBE_PAUSE_S = 0.5
"""Between questions to one that was passed over."""

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
Question = Callable[["ConductorAsyncStub", float], Awaitable[ResultT]]
"""Asked of one of them, who is to answer within so many seconds."""


class Conductors:
    """Channels by target, in the order of asking. Raises PeerUnavailable where nobody answers."""

    def __init__(self, targets: Sequence[str], tls: Tls | None = None, *, within_s: float = CONDUCTOR_S) -> None:
        self._tls = tls
        self._within_s = within_s
        self._known: dict[str, tuple[grpc.aio.Channel, ConductorAsyncStub]] = {}
        self._passed_over: dict[str, asyncio.Task[None]] = {}
        """Who let a question's time run out, and the task that asks it until it answers."""
        self._said: dict[str, set[str]] = {}
        """What was wrong with those that can't be used, as far as it was logged."""
        self._reach = Reach()
        self._open(targets)

    async def reach(self, targets: Sequence[str]) -> None:
        """From now on these are asked, in this order; whoever is not among them is asked no more."""
        before = self._known
        self._open(targets)
        for target in before.keys() - self._known.keys():
            await self._forget(target, before[target][0])

    async def first(self, ask: "Question[ResultT]", *, decides: Callable[[ResultT], bool] = lambda _: True) -> ResultT:
        """The first answer that decides; where there is none, the first one. Raises PeerUnavailable without any."""
        reasons: list[str] = []
        answers: list[ResultT] = []
        for target, stub in self._in_order():
            try:
                answer = await ask(stub, self._within_s)
            except (PeerError, WireError) as error:
                reasons.append(str(error))
                if isinstance(error, DeadlinePassed):
                    self._pass_over(target, stub)
                if isinstance(error, PeerUnusable | WireError):
                    self._say_once(target, str(error))
            else:
                self._said.pop(target, None)
                self._say_reached()
                if decides(answer):
                    return answer
                answers.append(answer)
        if answers:
            return answers[0]
        because = "; ".join(reasons) or "none is known yet"
        if self._reach.missed(now=time.monotonic()):
            log.warning("no conductor answers: requests are refused until one does", extra=fields(because=because))
        raise PeerUnavailable(f"no conductor answers: {because}")

    async def all(self, ask: "Question[ResultT]") -> list[ResultT | BaseException]:
        """What each of them answers, or the error instead."""
        stubs = [stub for _, stub in self._known.values()]
        return await asyncio.gather(*(ask(stub, self._within_s) for stub in stubs), return_exceptions=True)

    async def close(self) -> None:
        for target, (channel, _) in self._known.items():
            await self._forget(target, channel)
        self._known = {}

    def _open(self, targets: Sequence[str]) -> None:
        self._known = {target: self._known.get(target) or self._connected(target) for target in targets}

    def _connected(self, target: str) -> "tuple[grpc.aio.Channel, ConductorAsyncStub]":
        channel = open_channel(target, self._tls, reconnect_s=SOON_S)
        return channel, ConductorStub(channel)

    def _say_reached(self) -> None:
        away_s = self._reach.answered(now=time.monotonic())
        if away_s is not None:
            log.info("a conductor answers again", extra=fields(away_s=away_s))

    def _say_once(self, target: str, because: str) -> None:
        """What is wrong with it lasts, and each request meets it."""
        said = self._said.setdefault(target, set())
        if because not in said and len(said) < MOST_REASONS:
            said.add(because)
            log.warning("a conductor can't be used", extra=fields(target=target, because=because))

    async def _forget(self, target: str, channel: grpc.aio.Channel) -> None:
        self._said.pop(target, None)
        probe = self._passed_over.pop(target, None)
        if probe is not None:
            probe.cancel()
        await channel.close(grace=None)

    def _in_order(self) -> "list[tuple[str, ConductorAsyncStub]]":
        known = [(target, stub) for target, (_, stub) in self._known.items()]
        return sorted(known, key=lambda each: each[0] in self._passed_over)

    def _pass_over(self, target: str, stub: "ConductorAsyncStub") -> None:
        if target in self._known and target not in self._passed_over:
            self._passed_over[target] = asyncio.create_task(self._probe(target, stub), name=f"is {target} back")

    async def _probe(self, target: str, stub: "ConductorAsyncStub") -> None:
        """Until it answers."""
        while True:
            try:
                await described(stub, self._within_s)
            except (PeerError, WireError):
                await asyncio.sleep(PROBE_PAUSE_S)
            else:
                del self._passed_over[target]
                return


async def described(stub: "ConductorAsyncStub", within_s: float) -> Cluster:
    """What it believes. Raises PeerError, WireError."""
    return cluster_from_wire(await answer_to(stub.Describe(common_pb2.Empty(), timeout=within_s)))
