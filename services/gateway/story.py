"""The life of one request, told once: placed, prefilled, handed over, decoded; and again where that goes wrong.

    place --> prefill at p --> its last step --> first token --> confirmed --> tokens --> finished
      ^            |               \\--> decode at d ----^             |           |
      +------------+------ refused, unreachable ---------------------+------ died: with the tokens so far

Decode is called when the prefill's last step begins, so that blocks are lifted while it runs. The prefill
stream stays open until decode has confirmed, as it owns what is held for the handoff; both streams end when
their block is left. So cancelling the task that tells the
story, at whatever line, frees everything everywhere, and there is no other cleaning up.
Text is none of its business: who listens says when it is enough.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import assert_never

from scheduler.lifecycle import Event, Life, Phase
from scheduler.refusals import told
from scheduler.vocabulary import (
    Ask,
    FinishReason,
    Outcome,
    Placement,
    Priority,
    Rejection,
    RejectionCode,
    RequestId,
    Target,
    Urgency,
)
from services.gateway.cluster import ClusterClient, Decoding
from services.gateway.errors import unavailable
from services.gateway.generation import Account, Generation
from services.gateway.leg import Leg, decode_request, leg, prefill_request
from services.gateway.pace import Pace
from services.gateway.patience import Patience, Troubles
from services.wire.codec import lifted_from_wire
from services.wire.errors import (
    PeerError,
    PeerFailed,
    PeerUnavailable,
)
from services.wire.pb import worker_pb2

Give = Callable[[Sequence[int]], Awaitable[bool]]
"""Takes the next tokens; True: that is enough, the stream ends here."""


class TakenBack(Exception):
    """The conductor has taken its placement back, after the prefill and before any token."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.reason)
        self.rejection = rejection


class Story:
    """One generation's life. arrived: when its request did, by the event loop. output: the tokens given out so far."""

    def __init__(self, generation: Generation, cluster: ClusterClient, patience: Patience, *, arrived: float) -> None:
        self._generation = generation
        self._arrived = arrived
        self._cluster = cluster
        self._patience = patience
        self._clock = asyncio.get_running_loop().time
        self._ends_at = self._clock() + patience.whole_s
        batch = generation.wishes.priority is Priority.BATCH
        self._first_token_s = min(patience.first_token_s + batch * patience.batch_s, patience.whole_s)
        self._limit = asyncio.timeout(self._first_token_s)
        self._troubles = Troubles(patience, batch=batch)
        self._life = Life()
        self._pace = Pace(asked=self._clock())
        self._spent_s = max(0.0, self._clock() - arrived)  # waiting for room, later on, is no part of it
        self.output: list[int] = []
        self.account = Account()

    async def tell(self, give: Give) -> FinishReason | None:
        """Give out every token in order; why the stream ended, None where the listener had enough.

        Raises ApiError when nobody can begin or continue it; the time it may take is part of that.
        """
        try:
            async with self._limit:
                reason = await self._live(give)
        except TimeoutError:  # ours, or a worker's call that ran out of the time it was given
            self._happened(Event.GAVE_UP)
            raise unavailable(self._too_long(), code="deadline_exceeded") from None
        except asyncio.CancelledError:
            self._happened(Event.CLIENT_LEFT)
            raise
        except Exception:
            self._happened(Event.GAVE_UP)
            raise
        self._happened(Event.ENDED)
        return reason

    async def _live(self, give: Give) -> FinishReason | None:
        """One placement after the other, until one of them brings it to its end."""
        while not self._generation.ended_by(self.output):
            placement = await self._place()
            try:
                return await self._attempt(placement, give)
            except Leg as failed:
                self._happened(Event.LOST)
                self.account.failed.append(failed.worker)
                begun, now = bool(self.output), self._clock()
                late = now >= self._ends_at
                self._troubles.failed(
                    failed.worker, failed.trouble, taken=failed.taken, begun=begun, late=late, now=now
                )
            except TakenBack as taken_back:
                self._happened(Event.LOST)
                pause_s = self._troubles.rejected(taken_back.rejection, begun=False, now=self._clock())
                await asyncio.sleep(pause_s)
        # Its worker died between its last token and saying so.
        return FinishReason.STOP if self.output[-1] in self._generation.limits.stop_ids else FinishReason.LENGTH

    async def _attempt(self, placement: Placement, give: Give) -> FinishReason | None:
        """Through prefill (unless inline) and decode, as one placement says; raises Leg."""
        async with AsyncExitStack() as decoding, AsyncExitStack() as handoff:
            if placement.prefill is None:
                events = await decoding.enter_async_context(self._decoding(placement))
                return await self._decode(handoff, placement, events, give)
            begun, first = await self._prefill(decoding, handoff, placement, placement.prefill)
            if first.finished:
                enough = await self._give(give, [first.token])
                return None if enough else FinishReason(first.finish_reason)
            self._happened(Event.FIRST_TOKEN)
            if begun is None:
                begun = await decoding.enter_async_context(self._decoding(placement))
            begun.begin(first.token)
            if await self._give(give, [first.token]):
                return None
            return await self._decode(handoff, placement, begun, give)

    async def _prefill(
        self, decoding: AsyncExitStack, handoff: AsyncExitStack, placement: Placement, target: Target
    ) -> tuple[Decoding | None, worker_pb2.FirstToken]:
        """The first token, and its decode where that was called already. The prefill stays open with ``handoff``."""
        wire = prefill_request(self._generation, self.output, placement, target, self._urgency(placement))
        with leg(target):
            events = await handoff.enter_async_context(
                self._cluster.prefill(
                    target, wire, fingerprint=self._generation.fingerprint, timeout_s=self._time_left_s()
                )
            )
            event, begun = await events.next(), None
            if placement.second_check and event is not None and wire.limits.max_tokens > 1:
                await self._check_again()  # as the last step begins, or its token has come
            if event is not None and event.HasField("last_step"):
                if wire.limits.max_tokens > 1:
                    begun = await decoding.enter_async_context(self._decoding(placement))
                event = await events.next()
            if event is None or not event.HasField("first"):
                raise PeerFailed("the prefill ended without a token")
        first = event.first
        self._began(first)
        self.account.counted_at = target.address
        return begun, first

    async def _check_again(self) -> None:
        """Before the first token is given out: raises TakenBack. Where nobody can be asked, what was said stands."""
        try:
            rejection = await self._cluster.decode_begins(self._attempt_id())
        except PeerUnavailable:
            return
        if rejection is not None:
            raise TakenBack(rejection)

    def _decoding(self, placement: Placement) -> AbstractAsyncContextManager[Decoding]:
        """The call to who decodes; of a handoff, without its first token."""
        wire = decode_request(self._generation, self.output, placement, self._urgency(placement))
        return self._cluster.decode(
            placement.decode, wire, fingerprint=self._generation.fingerprint, timeout_s=self._time_left_s()
        )

    async def _decode(
        self, handoff: AsyncExitStack, placement: Placement, events: Decoding, give: Give
    ) -> FinishReason | None:
        """Tokens until the end; those that a handoff brings come after its first one."""
        taken = False
        try:
            while True:
                event = await events.next()
                match None if event is None else event.WhichOneof("kind"):
                    case "confirmed":
                        assert event is not None
                        taken = True
                        self.account.missing_blocks += event.confirmed.missing_blocks
                        self._happened(Event.CONFIRMED)
                        await handoff.aclose()
                    case "tokens":
                        assert event is not None
                        taken = True
                        self._happened(Event.TOKENS)
                        if event.tokens.HasField("began"):
                            self._began(event.tokens.began)
                        self.account.counted_at = placement.decode.address
                        if await self._give(give, event.tokens.ids):
                            return None
                    case "finished":
                        assert event is not None
                        self._began(event.finished)
                        return FinishReason(event.finished.reason)
                    case _:
                        raise PeerFailed("the stream broke off")
        except PeerError as trouble:
            taken = taken or isinstance(trouble, PeerFailed)
            raise Leg(placement.decode.worker, trouble, taken=taken) from trouble

    async def _place(self) -> Placement:
        """Ask until somebody can take it, or patience ends; raises ApiError."""
        self.account.placements += 1
        generation, started = self._generation, self._clock()
        wishes = generation.wishes
        ask = Ask(
            request=self._attempt_id(),
            names=generation.names_with(self.output),
            tokens=len(generation.prompt) + len(self.output),
            max_new_tokens=generation.limits.max_tokens - len(self.output),
            excluded=self._troubles.excluded | self._cluster.left_out(),
            ttft_slo_s=wishes.ttft_slo_s,
            tpot_slo_s=wishes.tpot_slo_s,
            priority=wishes.priority,
            tenant=wishes.tenant,
            waited_s=self._troubles.last_s(now=started),
            resumed=bool(self.output),
            spent_s=self._spent_s,
        )
        while True:
            self._pace = Pace(asked=self._clock())
            answer = await self._ask(ask)
            match answer:
                case Placement():
                    self._placed(answer, self._clock() - started)
                    return answer
                case Rejection():
                    self._happened(Event.REJECTED)
                    if not self.output and answer.predicted_ttft_s is not None:
                        self.account.predicted_ttft_s = answer.predicted_ttft_s
                    begun, now = bool(self.output), self._clock()
                    await asyncio.sleep(self._troubles.rejected(answer, begun=begun, now=now))
                    waited_s = self._troubles.last_s(now=self._clock())
                    ask = replace(ask, excluded=self._troubles.excluded, waited_s=waited_s)
                case _:
                    assert_never(answer)

    async def _ask(self, ask: Ask) -> Placement | Rejection:
        try:
            return await self._cluster.place(ask)
        except PeerUnavailable as error:
            return Rejection(ask.request, RejectionCode.UNAVAILABLE, str(error), 1.0)

    def _placed(self, placement: Placement, took_s: float) -> None:
        account = self.account
        if not self.output:  # what comes later is no part of the first token
            account.prefill = None if placement.prefill is None else placement.prefill.worker
            account.predicted_ttft_s = placement.predicted_ttft_s
            account.promise = placement.promise
            account.counted_at = (placement.prefill or placement.decode).address
        account.decode = placement.decode.worker
        account.placing_s += took_s
        account.decisions.append(placement.decision)
        account.moves += bool(self.output)
        self._happened(Event.PLACED_INLINE if placement.prefill is None else Event.PLACED)

    def _urgency(self, placement: Placement) -> Urgency:
        """What is left of its promises. Whoever waits for a stream to go on waits as for a first token, from now on."""
        promise, spent_s = placement.promise, 0.0 if self.output else self._clock() - self._arrived
        cached_tokens = placement.predicted_cached_tokens
        left_s, priority = promise.ttft_s - spent_s, self._generation.wishes.priority
        return Urgency(left_s, promise.tpot_s, priority, cached_tokens, placement.admitted)

    def _began(self, began: worker_pb2.FirstToken | worker_pb2.Began | worker_pb2.Finished) -> None:
        """Only the first time counts: what a resumed stream finds again is no gain for its client."""
        if self.account.cached_tokens is None:
            self.account.cached_tokens = began.cached_tokens
            self.account.lifted = lifted_from_wire(began.lifted)
            self.account.queue_s = began.queue_s
            self.account.prefill_s = began.prefill_s

    async def _give(self, give: Give, tokens: Sequence[int]) -> bool:
        if not self.output:
            self._limit.reschedule(self._ends_at)
        self._pace.heard(len(tokens), now=self._clock())
        self.output += tokens
        self._troubles.over()
        enough = await give(tokens)
        self._pace.told(now=self._clock())
        return enough

    def _happened(self, event: Event) -> None:
        """One step in the life's table; conductors learn what it means for their booking."""
        placing = self._life.phase is Phase.PLACING
        outcome = self._life.happened(event)
        if outcome is not None and not (placing and event is Event.GAVE_UP):  # else nothing is booked
            measured = None if outcome is Outcome.HANDED_OVER else self._pace.measured
            self._cluster.tell(self._attempt_id(), outcome, measured)

    def _attempt_id(self) -> RequestId:
        """Each placement has an id of its own, so that what is left of an earlier one is never taken for it."""
        request, number = self._generation.request, self.account.placements
        return request if number <= 1 else RequestId(f"{request}.{number}")

    def _too_long(self) -> str:
        if not self.output:
            return (
                f"No token of the answer came within {told(self._first_token_s)}, the longest that is waited for one."
            )
        return f"The answer was not complete within {told(self._patience.whole_s)}, the longest that one may take."

    def _time_left_s(self) -> float:
        return max(0.001, self._ends_at - self._clock())
