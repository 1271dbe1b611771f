"""One worker: the real batcher and table of device blocks; an engine whose steps take what its profile says.

    take -> admitted -> leases from the store -> lifted (copies queue for one engine) -> batches -> tokens
    a hand-over: slots are reserved before its first batch, blocks sealed as steps fill them, pushed meanwhile

Steps that only decode are planned as one event, a *flight* of several steps, and told apart again when something
comes from outside (``_interrupt``): the step that was under way by then ends as it would have.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

from engine.costs import batch_s
from kvstore.device import DeviceBlocks
from kvstore.layout import Identity
from kvstore.names import BlockName
from kvstore.vocabulary import Held, Lease, SlotRef, Write
from loadtest.simulator.coasting import CoastingBatcher
from loadtest.simulator.disturbed import Disturbed, Noise
from loadtest.simulator.events import Event, Events
from loadtest.simulator.links import Links
from loadtest.simulator.machine import Machine
from loadtest.simulator.push import Push
from loadtest.simulator.store import Store
from scheduler import estimate
from scheduler.batch import Batch
from scheduler.correction import Correction
from scheduler.progress import BatchLimits, FirstToken
from scheduler.reservation import Load
from scheduler.sequence import Running
from scheduler.vocabulary import RequestId, Role, StoreTarget, WorkerId, WorkerReport

WAIT_S = 10.0
"""How long a worker waits for blocks that are on their way to its store."""


@dataclass(slots=True, eq=False)
class Part:
    """One worker's part in a request.

    token: what it samples, always. source: where its store fetches what it lacks. push_to: the decode worker's
    store, for a hand-over between hosts. taken: all that could be leased is, and what is missing will be computed.
    first: its first token. ended: its last one. lost: the worker died. wanted: after so many of its tokens whoever
    asked has enough; None: stays to the end.
    """

    running: Running
    token: int
    taken: Callable[[], None]
    first: Callable[[FirstToken], None]
    ended: Callable[[], None]
    lost: Callable[[], None]
    source: StoreTarget | None = None
    push_to: Store | None = None
    wanted: int | None = None
    enough: Callable[[], None] = lambda: None
    steps: list[list[int]] = field(default_factory=list)
    """Runs [from, to) of this worker's steps that gave it a token each."""
    granted: dict[BlockName, SlotRef] = field(default_factory=dict)
    held: list[SlotRef] = field(default_factory=list)
    push: Push | None = None

    @property
    def tokens(self) -> int:
        return sum(end - start for start, end in self.steps)

    def got(self, step: int, tokens: int) -> None:
        if self.steps and self.steps[-1][1] == step:
            self.steps[-1][1] += tokens
        else:
            self.steps.append([step, step + tokens])


class Forgetful(DeviceBlocks):
    """Blocks of which nobody ever finds one again."""

    def match(self, names: Sequence[BlockName]) -> list[int]:
        return []


@dataclass(slots=True)
class _Flight:
    """A batch that runs, and when it and those like it behind it end."""

    batch: Batch
    ends: list[float]
    lands: Event


class Worker:
    """See the module.

    coasting False: every step is an event of its own. private: it neither looks into its store nor publishes there.
    disturbed: its engine is not what its profile says, and it corrects what it reports, as live ones do; steps are
    events of their own then.
    device_cache False: nothing is ever found on the device.
    """

    def __init__(
        self,
        name: WorkerId,
        role: Role,
        store: Store,
        machine: Machine,
        limits: BatchLimits,
        *,
        events: Events,
        links: Links,
        identity: Identity,
        coasting: bool = True,
        private: bool = False,
        device_cache: bool = True,
        disturbed: Disturbed | None = None,
    ) -> None:
        self.name, self.role, self.store = name, role, store
        self.ends = array("d")
        """When each step ended."""
        self._machine, self._limits, self._identity = machine, limits, identity
        self._events, self._links, self._private = events, links, private
        self._coasting = coasting and disturbed is None
        self._noise = None if disturbed is None else Noise(disturbed, name)
        self._device_cache = device_cache
        self._factor = 1.0
        self._incarnation = 0
        self._flight: _Flight | None = None
        self._applying = False
        self._copied_s = 0.0
        self.begin()

    def begin(self) -> None:
        """A worker of a new incarnation, with nothing on its device."""
        self.dead = False
        self._incarnation += 1
        self._reports = 0
        size = self.store.layout.block_tokens
        self._device = (DeviceBlocks if self._device_cache else Forgetful)(self._machine.device_tokens // size)
        profile = self._machine.profile
        self._batcher = CoastingBatcher(self._device, block_tokens=size, limits=self._limits, profile=profile)
        self._correction = None if self._noise is None else Correction(profile)
        self._session = self.store.join(self.name)
        self._parts: dict[RequestId, Part] = {}

    def die(self) -> None:
        """Whoever was served here is told; until ``begin`` nobody is."""
        if self._flight is not None:
            self._catch_up()
        if self._flight is not None:
            self._flight.lands.cancel()
        parts, self._parts, self._flight, self.dead = self._parts, {}, None, True
        for part in parts.values():
            if part.push is not None:
                part.push.end()  # its connection is gone
            part.lost()

    def slow(self, factor: float) -> None:
        """Steps that begin from now on take ``factor`` times what the profile says."""
        self._interrupt()
        self._factor = factor

    # -- requests -----------------------------------------------------------------------------------------------

    def take(self, part: Part) -> str | None:
        """Begin with it, or say in a sentence why not."""
        if self.dead:
            return "nobody answers"
        refusal = self._batcher.add(part.running, now=self._events.now)
        if refusal is None:
            self._parts[part.running.request] = part
            self._kick()
        return refusal

    def leave(self, part: Part) -> None:
        """Nobody waits for it any more: what it still has here is given back. For parts that have ended, too."""
        if self._parts.get(part.running.request) is not part:
            return
        del self._parts[part.running.request]
        self._interrupt()
        self._batcher.cancel(part.running.request)
        if part.push is not None:
            part.push.end()
        self.store.discard(self._session, list(part.granted.values()))
        self.store.release(self._session, part.held)
        self._kick()

    def times(self, part: Part) -> "array[float]":
        """When its tokens came."""
        times = array("d")
        for start, end in part.steps:
            times += self.ends[start:end]
        return times

    # -- loading ------------------------------------------------------------------------------------------------

    def _kick(self) -> None:
        """Something has changed that may let somebody be admitted or run."""
        if self._applying:
            return  # whoever applies does so when all its tokens are given out
        if self.dead:
            return
        for load in self._batcher.admit(now=self._events.now):
            self._load(self._parts[load.request], load)
        if self._flight is None:
            self._begin()

    def _load(self, part: Part, load: Load) -> None:
        if self._private or not load.missing:
            self._lift(part, load, [])
        else:
            self.store.acquire(
                self._session,
                load.missing,
                wait_s=WAIT_S,
                leased=partial(self._leased, self._incarnation, part, load),
                handoff=part.running.handed_over,
                source=part.source,
            )

    def _leased(self, incarnation: int, part: Part, load: Load, leases: Sequence[Lease]) -> None:
        if incarnation == self._incarnation and not self.dead:
            self._lift(part, load, leases)

    def _lift(self, part: Part, load: Load, leases: Sequence[Lease]) -> None:
        """Copies queue for one another, not for the steps."""
        if part.running.request in self._parts:
            part.taken()
        now = self._events.now
        self._copied_s = max(now, self._copied_s)
        if leases:
            self._copied_s += estimate.transfer_s(self._machine.profile, len(leases) * self.store.layout.block_bytes)
        self._events.at(self._copied_s, partial(self._lifted, self._incarnation, part, load, leases))

    def _lifted(self, incarnation: int, part: Part, load: Load, leases: Sequence[Lease]) -> None:
        if incarnation != self._incarnation or self.dead:
            return
        if part.running.request in self._parts:
            if load.handoff:
                self._reserve(part, load, cached=load.reused + len(leases))
            self._interrupt()
            self._batcher.loaded(part.running.request, len(leases))
        self.store.release(self._session, leases)
        self._kick()

    def _reserve(self, part: Part, load: Load, *, cached: int) -> None:
        """Slots for a hand-over; what the device has and the store lacks is copied at once."""
        names = load.handoff
        grants = self.store.allocate(self._session, names, last_is_short=load.handoff_short, hold=True)
        for name, grant in zip(names, grants, strict=True):
            if isinstance(grant, Held):
                part.held.append(grant)
            elif isinstance(grant, Write):
                part.granted[name] = grant
        self._seal(part, [name for name, _ in load.held])
        if part.push_to is not None and part.push_to is not self.store:
            size = self.store.layout.block_tokens
            rest = len(part.running.tokens) % size or size
            part.push = Push(
                self._links,
                self.store,
                part.push_to,
                names,
                last_is_short=load.handoff_short,
                last_bytes=rest * self._machine.kv_bytes,
            )
            part.push.flow(names[:cached], computed=True)

    def _seal(self, part: Part, names: Sequence[BlockName]) -> None:
        written = [part.granted.pop(name) for name in names if name in part.granted]
        self.store.seal(self._session, written)
        part.held += written

    # -- steps --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        now = self._events.now
        batch = self._batcher.next(now=now)
        if batch is None:
            return
        steps = self._batcher.alike(batch, now=now) if self._coasting else 1
        if steps > 1:
            steps = min(steps, self._until_enough(batch))
        ends = self._ends(batch, steps)
        if steps > 1:
            del ends[bisect_left(ends, self._batcher.quiet_until_s(now=now)) + 1 :]
        if self._correction is not None:
            self._correction.ran(batch, ends[0] - now)
            self._batcher.profile = self._correction.lately(now=ends[0])
        self._flight = _Flight(batch, ends, self._events.at(ends[-1], self._landed))
        for part, names in self._filled(batch):
            if part.push is not None:
                part.push.flow(names, computed=False)

    def _until_enough(self, batch: Batch) -> int:
        """Steps until somebody has all the tokens that are wanted; who has them already is leaving."""
        parts = [self._parts[piece.request] for piece in batch.slices]
        return max(1, min((part.wanted - part.tokens for part in parts if part.wanted is not None), default=1 << 30))

    def _ends(self, batch: Batch, steps: int) -> list[float]:
        """When each of ``steps`` batches like this one ends; to the last bit as if they were run one by one."""
        now, profile = self._events.now, self._machine.profile
        if steps == 1:
            noise = 1.0 if self._noise is None else self._noise.next()
            return [now + noise * self._factor * batch_s(profile, batch)]
        sequences, kv_tokens = len(batch.slices), sum(piece.end for piece in batch.slices)
        base, each, token = profile.step_s
        fixed_s, factor = base + each * sequences, self._factor
        last = kv_tokens + sequences * steps
        seconds = [factor * (fixed_s + token * tokens) for tokens in range(kv_tokens, last, sequences)]
        seconds[0] += now
        return list(accumulate(seconds))

    def _landed(self) -> None:
        self._catch_up()
        self._kick()

    def _interrupt(self) -> None:
        """Of what flies, only the step under way is sure to end as planned."""
        flight = self._flight
        if flight is None or len(flight.ends) == 1:
            return
        self._catch_up()
        flight = self._flight
        if flight is not None and len(flight.ends) > 1:
            flight.lands.cancel()
            flight.ends = flight.ends[:1]
            flight.lands = self._events.at(flight.ends[0], self._landed)

    def _catch_up(self) -> None:
        """Apply every step that has ended by now; the one under way is in flight then, with those planned behind it."""
        flight = self._flight
        assert flight is not None
        done, planned = bisect_right(flight.ends, self._events.now), len(flight.ends)
        if not done:
            return
        self._flight = None
        self._apply(flight.batch, flight.ends[0])
        coasted = min(done, planned - 1) - 1
        if coasted > 0:
            self._coast(flight.batch, flight.ends[1 : 1 + coasted])
        if planned == 1:
            return
        batch = self._batcher.next(now=flight.ends[coasted])
        assert batch is not None, "who decodes goes on"
        if done == planned:
            self._apply(batch, flight.ends[-1])
        else:
            self._flight = _Flight(batch, flight.ends[done:], flight.lands)

    def _coast(self, batch: Batch, ends: Sequence[float]) -> None:
        step = len(self.ends)
        self.ends.extend(ends)
        self._batcher.coast(len(ends))
        for piece in batch.slices:
            self._parts[piece.request].got(step, len(ends))

    def _apply(self, batch: Batch, end_s: float) -> None:
        """Seal what the step has filled before anybody may take its blocks; then give out its tokens."""
        step = len(self.ends)
        self.ends.append(end_s)
        for part, names in self._filled(batch):
            if part.running.hand_over:
                self._seal(part, names)
                if part.push is not None:
                    part.push.computed(names)
            elif not self._private:
                place = part.running.names.index(names[0])
                self.store.publish(self._session, part.running.names[place - 1] if place else None, names)
        parts = [self._parts.get(piece.request) for piece in batch.slices]
        tokens = [
            None if piece.sampling is None else 0 if part is None else part.token
            for piece, part in zip(batch.slices, parts, strict=True)
        ]
        self._applying = True
        for progress in self._batcher.applied(batch, tokens, now=end_s):
            part = self._parts[progress.request]
            part.got(step, 1)
            if progress.first is not None:
                part.first(progress.first)
            if part.wanted is not None and part.wanted == part.tokens:
                part.enough()
            if progress.finish is not None:
                part.ended()
        self._applying = False

    def _filled(self, batch: Batch) -> list[tuple[Part, list[BlockName]]]:
        """What the batch fills, by whom."""
        if not batch.fills:
            return []
        filled: dict[RequestId, list[BlockName]] = {}
        for fill in batch.fills:
            if fill.request in self._parts:
                filled.setdefault(fill.request, []).append(fill.name)
        return [(self._parts[request], names) for request, names in filled.items()]

    # -- reports ------------------------------------------------------------------------------------------------

    def report(self) -> WorkerReport:
        state = self._batcher.snapshot()
        kv_tokens = state.kv_tokens
        if self._flight is not None:
            # What has been decoded since the flight began and is not applied yet.
            kv_tokens += bisect_right(self._flight.ends, self._events.now) * len(self._flight.batch.slices)
        self._reports += 1
        return WorkerReport(
            worker=self.name,
            incarnation=self._incarnation,
            sequence=self._reports,
            role=self.role,
            address=self.name,
            store=None if self._private else self.store.name,
            pid=0,
            identity=self._identity,
            profile=self._batcher.profile,
            max_num_seqs=self._limits.max_num_seqs,
            max_model_len=self._limits.max_model_len,
            running=state.running,
            waiting=state.waiting,
            prefill_tokens_queued=state.prefill_tokens_queued,
            kv_tokens=kv_tokens,
            device_blocks_free=self._device.free,
            device_blocks_total=self._device.total,
            live=state.live,
            block_bytes=self.store.layout.block_bytes,
            prefills_queued=state.prefills_queued,
            prefill_squares_queued=state.prefill_squares_queued,
        )

    @property
    def queued_s(self) -> float:
        """How long the prefills take that are queued here, one after the other."""
        state, (base, linear, square) = self._batcher.snapshot(), self._machine.profile.prefill_s
        tokens = linear * state.prefill_tokens_queued + square * state.prefill_squares_queued
        return base * state.prefills_queued + tokens

    @property
    def step_s(self) -> float:
        """How long one decode step of all sequences that run here takes; 0 where none runs."""
        report = self._batcher.snapshot()
        return estimate.step_s(self._machine.profile, report.running, report.kv_tokens) if report.running else 0.0

    def check(self) -> None:
        """Assert that blocks conserve, and that nothing is held for nobody."""
        self._device.check()
        if not self._parts:
            assert self._device.pinned == 0, f"{self.name} holds blocks for nobody"
