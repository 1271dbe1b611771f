"""One request's way through the simulated cluster, as the gateway tells it in the live one.

    place --> prefill at p --> first token --> decode at d --> leases taken --> tokens --> finished

Phases, and what conductors are told of them, are ``scheduler.lifecycle``'s. A worker that refuses is excluded
and the request placed again; a rejection ends the story, and a client that waits as told comes back with another one.
A client may leave midway: whatever the request still has anywhere is given back at that moment.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

from kvstore.names import BlockName, block_names
from loadtest.request import Request, text
from loadtest.simulator.events import Events
from loadtest.simulator.part import Part
from loadtest.simulator.record import Record, tbt_s
from loadtest.simulator.store import Store
from loadtest.simulator.worker import Worker
from scheduler.lifecycle import Event, Life
from scheduler.progress import FirstToken
from scheduler.sequence import Running
from scheduler.vocabulary import (
    Ask,
    Limits,
    Measured,
    Outcome,
    Placement,
    Rejection,
    RequestId,
    Sampling,
    StoreId,
    StoreTarget,
    Urgency,
    WorkerId,
)

GREEDY = Sampling()


class Decides(Protocol):
    """What a story asks of ``scheduler.conductor.Conductor``."""

    def place(self, ask: Ask, *, now: float) -> Placement | Rejection: ...

    def decode_begins(self, request: RequestId, *, now: float) -> Rejection | None: ...

    def outcome(
        self, request: RequestId, outcome: Outcome, *, now: float, measured: Measured | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a story takes place.

    max_new_tokens: what clients say they want at most, whatever they will get. longest: prompt and answer, where every
    answer ends, as it does live. keep_times: records have the time of every token. enforced: workers are told what was
    promised. call_s: how long the next call takes on its way; None: no time.
    """

    events: Events
    conductor: Decides
    workers: dict[WorkerId, Worker]
    stores: dict[StoreId, Store]
    root: BlockName
    block_tokens: int
    max_new_tokens: int
    longest: int
    keep_times: bool = False
    enforced: bool = True
    call_s: Callable[[], float] | None = None


class Story:
    """Told by callbacks; ``over`` is called once, with what became of it.

    wanted: after so many tokens its client leaves; None: it stays to the end. told_s: of its earlier tries, when it was
    told to come again.
    """

    def __init__(
        self,
        request: Request,
        place: int,
        cluster: Cluster,
        over: Callable[[Record], None],
        *,
        wanted: int | None = None,
        told_s: tuple[float, ...] = (),
    ) -> None:
        self._request, self._cluster, self._over, self._wanted = request, cluster, over, wanted
        room = max(1, cluster.longest - request.input_tokens)  # a prompt without any is rejected
        self._output_tokens = min(request.output_tokens, room)
        self._id = RequestId(f"r{place}.{len(told_s)}" if told_s else f"r{place}")
        self._tokens = text(request.prompt)
        self._names = tuple(block_names(cluster.root, self._tokens, cluster.block_tokens))
        self._life = Life()
        self._excluded: frozenset[WorkerId] = frozenset()
        self._parts: list[tuple[Worker, Part]] = []
        self._times = array("d")
        self._urgency = Urgency()
        self._given = 0
        self._spent_s = 0.0
        self._record = Record(
            place,
            cluster.events.now,
            request.input_tokens,
            self._output_tokens,
            blocks=-(-request.input_tokens // cluster.block_tokens),
            placements=0,
            told_s=told_s,
        )

    def begin(self) -> None:
        """Ask for a place, as soon as the call has come through."""
        self._later(self._place)

    def _later(self, called: Callable[[], None]) -> None:
        call_s = self._cluster.call_s
        if call_s is None:
            called()
        else:
            self._cluster.events.after(call_s(), called)

    def _place(self) -> None:
        """Again with the tokens so far, where a worker refused or died."""
        cluster = self._cluster
        if not self._record.placements:
            self._spent_s = cluster.events.now - self._record.asked_s
        names, tokens, resumed = self._names, len(self._tokens), bool(self._times)
        ask = Ask(
            self._id,
            names,
            tokens,
            cluster.max_new_tokens,
            self._excluded,
            resumed=resumed,
            spent_s=self._spent_s,
        )
        answer = cluster.conductor.place(ask, now=cluster.events.now)
        if isinstance(answer, Rejection):
            self._rejected(answer)
            return
        self._record.placements += 1
        self._happened(Event.PLACED_INLINE if answer.prefill is None else Event.PLACED)
        self._later(partial(self._placed, answer))

    def _rejected(self, rejection: Rejection) -> None:
        self._happened(Event.GAVE_UP)
        self._record.rejected, self._record.rejected_as = rejection.reason, rejection.code.value
        self._record.retry_after_s = rejection.retry_after_s
        self._end()

    def _placed(self, placement: Placement) -> None:
        workers, inline = self._cluster.workers, placement.prefill is None
        decode = workers[placement.decode.worker]
        worker = decode if placement.prefill is None else workers[placement.prefill.worker]
        if not self._times:
            record = self._record
            record.predicted_ttft_s = placement.predicted_ttft_s
            record.prefill, record.decode = None if inline else worker.name, decode.name
        self._urgency = self._urged(placement)
        part = Part(
            self._running(hand_over=not inline),
            self._request.output.content,
            taken=_nothing,
            first=lambda first: self._first(first, None if inline else decode),
            ended=self._ended,
            lost=lambda: self.lost(worker),
            source=placement.source,
            push_to=None if inline else decode.store,
            wanted=self._still_wanted(len(self._times)),
            enough=self._enough,
        )
        self._take(worker, part)

    def _take(self, worker: Worker, part: Part) -> None:
        self._parts.append((worker, part))
        if worker.take(part) is not None:
            self._parts.pop()
            self.lost(worker)

    def lost(self, worker: Worker) -> None:
        """It has refused, or died: the tokens given out so far are kept, and somebody else goes on."""
        self._times = self._all_times()
        given = len(self._times) - self._given
        self._given = len(self._times)
        if given:
            self._tokens += array("I", (self._request.output.content,)) * given
            self._names = tuple(block_names(self._cluster.root, self._tokens, self._cluster.block_tokens))
        self._leave()
        self._happened(Event.LOST)
        self._excluded |= {worker.name}
        self.begin()

    def _running(self, *, hand_over: bool = False, handed_over: bool = False) -> Running:
        tokens = self._tokens[:]
        if handed_over:
            tokens.append(self._request.output.content)
        # An array does all that a batcher does with a list of tokens, in 4 bytes each.
        ids, limits = cast("list[int]", tokens), Limits(max_tokens=self._output_tokens)
        prompt = self._request.input_tokens
        root, urgency = self._cluster.root, self._urgency
        running = Running(self._id, root, ids, prompt, GREEDY, limits, hand_over, handed_over, urgency)
        running.names = list(self._names)  # named once; a batcher that is given none names them itself
        return running

    def _urged(self, placement: Placement) -> Urgency:
        """What is left of its promises; of a stream that has begun, from now on."""
        if not self._cluster.enforced:
            return Urgency()
        spent_s = 0.0 if self._times else self._cluster.events.now - self._record.asked_s
        promise, cached_tokens = placement.promise, placement.predicted_cached_tokens
        left_s, admitted = promise.ttft_s - spent_s, placement.admitted
        return Urgency(left_s, promise.tpot_s, cached_tokens=cached_tokens, admitted=admitted)

    # -- what happens -------------------------------------------------------------------------------------------

    def _first(self, first: FirstToken, decode: Worker | None) -> None:
        """A prefill is done; decode: who goes on, where it is handed over."""
        record = self._record
        if record.ttft_s is None:
            record.ttft_s = self._cluster.events.now - record.asked_s
            record.cached_tokens = first.cached_tokens
            record.cached_blocks = first.cached_tokens // self._cluster.block_tokens
        if decode is None:
            return
        self._happened(Event.FIRST_TOKEN)
        if self._given + 1 < self._output_tokens:
            # Not within the step that gave it: the worker has others to tell, and calls take their turn.
            self._cluster.events.after(0.0, partial(self._hand_over, decode, self._parts[0][1]))

    def _hand_over(self, decode: Worker, prefilled: Part) -> None:
        """What d's store had no room for is fetched from p's."""
        if not self._parts or self._parts[0][1] is not prefilled:
            return  # p has died since
        rejection = self._cluster.conductor.decode_begins(self._id, now=self._cluster.events.now)
        if rejection is not None:
            self._rejected(rejection)
            return
        running, prefill = self._running(handed_over=True), self._parts[0][0].store.name
        source = None if decode.store.name == prefill else StoreTarget(prefill, prefill)
        part = Part(
            running,
            self._request.output.content,
            taken=self._taken,
            first=_nothing,
            ended=self._ended,
            lost=lambda: self.lost(decode),
            source=source,
            wanted=self._still_wanted(len(self._times) + 1),
            enough=self._enough,
        )
        self._take(decode, part)

    def _taken(self) -> None:
        """The decode worker has its leases: p's part is over, and so is the push."""
        self._happened(Event.CONFIRMED)
        worker, part = self._parts[0]
        worker.leave(part)

    def _ended(self) -> None:
        times = self._all_times()
        assert len(times) == self._output_tokens, f"{len(times)} of {self._output_tokens} tokens came"
        self._record.tbt_s, self._record.ended_s = tbt_s(times), self._cluster.events.now
        self._happened(Event.ENDED)
        self._end()

    def _still_wanted(self, given: int) -> int | None:
        return None if self._wanted is None else self._wanted - given

    def _enough(self) -> None:
        """Whoever it is for leaves, not within the step: by the time that a worker hears of it, the next one runs."""
        self._cluster.events.after(0.0, self._client_left)

    def _client_left(self) -> None:
        if self._life.ended:
            return  # rejected at this very moment
        self._happened(Event.CLIENT_LEFT)
        self._record.left = True
        self._end()

    def _all_times(self) -> "array[float]":
        """Of every token that was given out so far."""
        times = self._times[:]
        for worker, part in self._parts:
            times += worker.times(part)
        return times

    def _leave(self) -> None:
        for worker, part in self._parts:
            worker.leave(part)
        self._parts = []

    def _end(self) -> None:
        if self._cluster.keep_times:
            asked_s = self._record.asked_s
            self._record.times_s = tuple(when - asked_s for when in self._all_times())
        self._leave()
        self._over(self._record)

    def _happened(self, event: Event) -> None:
        outcome = self._life.happened(event)
        if outcome is not None:
            measured = None if outcome is Outcome.HANDED_OVER else self._measured()
            self._cluster.conductor.outcome(self._id, outcome, now=self._cluster.events.now, measured=measured)

    def _measured(self) -> Measured:
        """By the gateway's clock, as far as it got. What experiments promise of the pace is the papers' TBT."""
        record = self._record
        return Measured(record.ttft_s, tbt_s(self._all_times()) if record.ended_s is None else record.tbt_s)


def _nothing(*_: object) -> None:
    """Nobody needs to know."""
