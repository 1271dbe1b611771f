"""One worker: the real batcher and table of device blocks, around an engine in virtual time.

take -> admitted -> loaded from the store -> batches -> tokens -> leave
a hand-over: slots are reserved before its first batch, blocks sealed as steps fill them, pushed meanwhile
"""

from array import array
from collections.abc import Sequence

from kvstore.device import DeviceBlocks
from kvstore.layout import Identity
from kvstore.names import BlockName
from loadtest.simulator.coasting import CoastingBatcher
from loadtest.simulator.disturbed import Disturbed
from loadtest.simulator.engine import Engine
from loadtest.simulator.events import Events
from loadtest.simulator.handoff import Handoff
from loadtest.simulator.links import Links
from loadtest.simulator.loader import Loader
from loadtest.simulator.machine import Machine
from loadtest.simulator.pace import Pace
from loadtest.simulator.part import Part
from loadtest.simulator.parts import Parts
from loadtest.simulator.store import Store
from scheduler import estimate
from scheduler.correction import Correction
from scheduler.progress import BatchLimits
from scheduler.reservation import Load
from scheduler.vocabulary import Role, WorkerId, WorkerReport


class Forgetful(DeviceBlocks):
    """Blocks of which nobody ever finds one again."""

    def match(self, names: Sequence[BlockName]) -> list[int]:
        return []


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
        self._ends = array("d")
        self._machine, self._limits, self._identity = machine, limits, identity
        self._events, self._links, self._private = events, links, private
        self._disturbed = disturbed is not None
        self._coasting = coasting and disturbed is None
        self._pace = Pace(machine.profile, disturbed, name)
        self._device_cache = device_cache
        self._incarnation = 0
        self.begin()

    def begin(self) -> None:
        """A worker of a new incarnation, with nothing on its device."""
        self.dead = False
        self._incarnation += 1
        self._reports = 0
        store, events, size, profile = self.store, self._events, self.store.layout.block_tokens, self._machine.profile
        self._device = (DeviceBlocks if self._device_cache else Forgetful)(self._machine.device_tokens // size)
        self._batcher = CoastingBatcher(self._device, block_tokens=size, limits=self._limits, profile=profile)
        self._session = session = store.join(self.name)
        self._parts = Parts(self._batcher, store, session, self._ends, private=self._private)
        self._loader = Loader(
            store, session, profile, events, private=self._private, loaded=self._loaded, freed=self._kick
        )
        self._engine = Engine(
            self._batcher,
            self._parts,
            self._pace,
            events,
            coasting=self._coasting,
            correction=Correction(profile) if self._disturbed else None,
            landed=self._kick,
        )

    def die(self) -> None:
        """Whoever was served here is told; until ``begin`` nobody is."""
        self._engine.stop()
        self._loader.end()
        self.dead = True
        for part in self._parts.clear():
            if part.handoff is not None:
                part.handoff.cut()
            part.lost()

    def slow(self, factor: float) -> None:
        """Steps that begin from now on take ``factor`` times what the profile says."""
        self._engine.interrupt()
        self._pace.factor = factor

    # -- requests -----------------------------------------------------------------------------------------------

    def take(self, part: Part) -> str | None:
        """Begin with it, or say in a sentence why not."""
        if self.dead:
            return "nobody answers"
        refusal = self._batcher.add(part.running, now=self._events.now)
        if refusal is None:
            self._parts.add(part)
            self._kick()
        return refusal

    def leave(self, part: Part) -> None:
        """Nobody waits for it any more: what it still has here is given back. For parts that have ended, too."""
        if part.left:
            return
        self._parts.remove(part)
        self._engine.interrupt()
        self._batcher.cancel(part.request)
        if part.handoff is not None:
            part.handoff.end()
        self._kick()

    def times(self, part: Part) -> "array[float]":
        """When its tokens came."""
        times = array("d")
        for start, end in part.steps:
            times += self._ends[start:end]
        return times

    def _kick(self) -> None:
        """Something has changed that may let somebody be admitted or run."""
        if self.dead or self._parts.telling:
            return  # whoever gives tokens out does so when all are told
        for load in self._batcher.admit(now=self._events.now):
            self._loader.load(self._parts[load.request], load)
        self._engine.start()

    def _loaded(self, part: Part, load: Load, blocks: int) -> None:
        if not part.left:
            if load.handoff:
                self._reserve(part, load, computed=load.reused + blocks)
            self._engine.interrupt()
            self._batcher.loaded(part.request, blocks)

    def _reserve(self, part: Part, load: Load, *, computed: int) -> None:
        """Slots for a hand-over; what the device has and the store lacks is copied at once."""
        part.handoff = Handoff(self.store, self._session, load.handoff, last_is_short=load.handoff_short)
        part.handoff.seal([name for name, _ in load.held])
        if part.push_to is not None and part.push_to is not self.store:
            size = self.store.layout.block_tokens
            last_tokens = len(part.running.tokens) % size or size
            last_bytes = last_tokens * self._machine.kv_bytes
            part.handoff.push(self._links, part.push_to, last_bytes=last_bytes, computed=computed)

    # -- reports ------------------------------------------------------------------------------------------------

    def report(self) -> WorkerReport:
        state = self._batcher.snapshot()
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
            kv_tokens=state.kv_tokens + self._engine.decoded,
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
