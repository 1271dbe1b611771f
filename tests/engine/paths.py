"""Workers without processes: batcher, device blocks and an engine over an arena in memory.

What ``services.worker`` does with sockets and threads, in the order in which it does it: lift what is
there, run, lower layer by layer, seal. So every path that a prompt can take is a few lines here.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from engine.port import Engine
from engine.toy import ToyEngine, toy_layout
from kvstore.device import DeviceBlocks
from kvstore.layout import KvLayout
from kvstore.names import BlockName, root_name
from scheduler.batch import Batch, Copy
from scheduler.batching import Batcher
from scheduler.estimate import FREE
from scheduler.progress import BatchLimits, Progress
from scheduler.reservation import Load
from scheduler.sequence import sequence
from scheduler.vocabulary import FinishReason, Limits, RequestId, Sampling

SIZE = 8
"""Tokens in a block."""

LAYOUT = toy_layout(SIZE)
ROOT = root_name(b"\x07" * 32)


GREEDY = Sampling()
TWELVE = Limits(max_tokens=12)


@dataclass(frozen=True)
class Asked:
    """One request, whole: what any path must answer in the same way."""

    prompt: tuple[int, ...]
    sampling: Sampling = GREEDY
    limits: Limits = TWELVE


class Arena:
    """Slots in memory, and which name is in which; slots are never used twice."""

    def __init__(self, slots: int = 400, layout: KvLayout = LAYOUT) -> None:
        self.layout = layout
        self.memory = bytearray(slots * layout.slot_bytes)
        self.names: dict[BlockName, int] = {}
        self.used = 0

    def allocate(self) -> int:
        self.used += 1
        return self.used - 1

    def slot(self, index: int) -> memoryview:
        """The bytes of one block."""
        start = index * self.layout.slot_bytes
        return memoryview(self.memory)[start : start + self.layout.block_bytes]

    def layer(self, index: int, layer: int) -> memoryview:
        start = self.layout.layer_offsets[layer]
        return self.slot(index)[start : start + self.layout.layer_bytes[layer]]

    def carried(self, names: Collection[BlockName]) -> "Arena":
        """Another host's, that has these blocks, in other slots."""
        other = Arena(layout=self.layout)
        for name in reversed([name for name in self.names if name in names]):
            other.names[name] = other.allocate()
            other.slot(other.names[name])[:] = self.slot(self.names[name])
        return other

    def lose(self, names: Iterable[BlockName]) -> None:
        for name in list(names):
            self.names.pop(name, None)


@dataclass
class Worker:
    """model: an engine to run, whose pages may hold anything at first; None makes a toy.
    distrusted: how many blocks of a request's next lift are good; the one behind them turns out to be stale."""

    arena: Arena | None = None
    blocks: int = 64
    seats: int = 8
    tokens: int = 512
    seed: int = 0
    model: Engine | None = None
    progress: dict[str, list[Progress]] = field(default_factory=dict)
    distrusted: dict[RequestId, int] = field(default_factory=dict)
    lifted: int = 0
    largest_batch: int = 0

    def __post_init__(self) -> None:
        self.device = DeviceBlocks(self.blocks)
        self.engine = self.model or ToyEngine(self.blocks, block_tokens=SIZE, max_model_len=1024, seed=self.seed)
        assert self.blocks <= self.engine.blocks_total, "the engine has fewer blocks"
        limits = BatchLimits(self.seats, self.tokens, self.engine.max_model_len, 100)
        size = self.engine.layout.block_tokens
        self.batcher = Batcher(self.device, block_tokens=size, limits=limits, profile=FREE)
        if self.arena is not None:
            self.engine.attach(memoryview(self.arena.memory), self.engine.layout.slot_bytes)

    def add(
        self,
        name: str,
        asked: Asked,
        *,
        output: Sequence[int] = (),
        hand_over: bool = False,
        handed_over: bool = False,
        limits: Limits | None = None,
    ) -> None:
        refusal = self.batcher.add(
            sequence(
                RequestId(name),
                root=ROOT,
                prompt=asked.prompt,
                output=output,
                sampling=asked.sampling,
                limits=limits or asked.limits,
                hand_over=hand_over,
                handed_over=handed_over,
            ),
            now=0,
        )
        assert refusal is None, refusal
        self.progress[name] = []

    def work(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until nobody is left, or until that is so."""
        while self.batcher.snapshot().live and not until():
            loads = self.batcher.admit(now=0)
            for load in loads:
                self._load(load)
            batch = self.batcher.next(now=0)
            if batch is not None:
                self._step(batch)

    def given(self, name: str) -> list[int]:
        return [each.token for each in self.progress[name]]

    def finish(self, name: str) -> FinishReason | None:
        return self.progress[name][-1].finish

    def cached(self, name: str) -> int:
        first = self.progress[name][0].first
        assert first is not None
        return first.cached_tokens

    def _load(self, load: Load) -> None:
        arena, lifted = self.arena, 0
        if arena is not None:
            slots = list(takewhile(lambda slot: slot is not None, map(arena.names.get, load.missing)))
            copies = [Copy(slot, block) for slot, block in zip(slots, load.targets, strict=False) if slot is not None]
            self.engine.lift(copies)
            lifted = min(len(copies), self.distrusted.pop(load.request, len(copies)))
            for name, block in load.held if load.handoff else ():
                if name not in arena.names:
                    slot = arena.allocate()
                    self.engine.lower([Copy(slot, block)])
                    arena.names[name] = slot
        self.lifted += lifted
        self.batcher.loaded(load.request, lifted)

    def _step(self, batch: Batch) -> None:
        self.largest_batch = max(self.largest_batch, len(batch.slices))
        arena = self.arena
        slots = [] if arena is None else [arena.allocate() for _ in batch.fills]
        copies = [Copy(slot, fill.block) for slot, fill in zip(slots, batch.fills, strict=False)]
        result = self.engine.run(batch, lambda layer: self.engine.lower_layer(copies, layer))
        if arena is not None:
            for fill, slot in zip(batch.fills, slots, strict=True):
                arena.names.setdefault(fill.name, slot)
        for each in self.batcher.applied(batch, result.tokens, now=0):
            self.progress[each.request].append(each)


def alone(asked: Asked, *, seed: int = 0) -> list[int]:
    """The one true answer: one worker, one request, one chunk."""
    worker = Worker(seed=seed)
    worker.add("a", asked)
    worker.work()
    return worker.given("a")


def prefilled(asked: Asked, arena: Arena, *, output: Sequence[int] = (), tokens: int = 512) -> list[int]:
    """A prefill worker has handed it over; returns its first token, and has ended if that ended the stream.

    output: what was given out before, of a stream that is resumed.
    """
    worker = Worker(arena, tokens=tokens)
    worker.add("a", asked, output=output, hand_over=True)
    worker.work()
    return worker.given("a")


def decoded(asked: Asked, arena: Arena, first: Sequence[int]) -> list[int]:
    """A decode worker takes it over; returns the whole stream."""
    worker = Worker(arena)
    worker.add("a", asked, output=first, handed_over=True)
    worker.work()
    return [*first, *worker.given("a")]


def ended(asked: Asked, output: Collection[int]) -> bool:
    return len(output) >= asked.limits.max_tokens or any(token in asked.limits.stop_ids for token in output)
