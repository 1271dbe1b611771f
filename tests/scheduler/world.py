"""A batcher, an engine that remembers every token, and a store; and everything that may happen to them.

The engine writes, per block and offset, the whole prefix that the KV there stands for, so a slice that
would read anything but its own past is seen at once, whoever misnamed, shared or freed a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from random import Random

from kvstore.names import BlockName, child_name
from scheduler.batch import Batch, Fill
from scheduler.estimate import FREE
from scheduler.reservation import Load
from scheduler.vocabulary import FinishReason, Priority, Profile, RequestId
from tests.scheduler.build import ROOT, SIZE, ask_for, batcher, names

SEATS, TOKENS, CONTEXT, WAITING = 4, 9, 40, 6
STOP = 9
SOME = Profile(prefill_s=(0.001, 0.002, 0.0), step_s=(0.004, 0.001, 0.0))

Prefix = tuple[int, ...]
Block = list[Prefix | None]


@dataclass
class Story:
    """What the world knows of one request. seated: admitted; loaded: takes part in steps."""

    arrival: int
    tokens: list[int]
    hand_over: bool
    seated: bool = False
    loaded: bool = False


class World:
    """Every method asserts what must hold; ``check`` what holds between them.

    promises: requests come with some, and time passes; who comes next is then for others to test.
    """

    def __init__(self, blocks: int, *, promises: bool = False) -> None:
        profile = SOME if promises else FREE
        self.batcher, self.device = batcher(
            blocks, seats=SEATS, tokens=TOKENS, context=CONTEXT, waiting=WAITING, profile=profile
        )
        self.promises = promises
        self.now = 0.0
        self.memory: list[Block] = [[None] * SIZE for _ in range(blocks)]
        self.slots: list[Block] = []
        self.store: dict[BlockName, int] = {}
        self.live: dict[RequestId, Story] = {}
        self.prompts: dict[RequestId, int] = {}
        self.loads: list[Load] = []
        self.pinned: list[int] = []
        self.late: list[tuple[tuple[int, ...], list[Block]]] = []
        self.flight: Batch | None = None
        self.arrivals = 0
        self.longest = min(CONTEXT, blocks * SIZE)

    # -- coming and going

    def add(self, random: Random) -> None:
        """Few beginnings, so that prefixes are shared."""
        text = [random.randrange(3), *range(random.randrange(19)), *random.choices(range(8), k=random.randrange(3))]
        kind = random.choice(["alone", "alone", "hand_over", "handed_over", "handed_over", "resumed"])
        output = [5] if kind in ("resumed", "handed_over") else []
        if kind == "handed_over":
            self._written_elsewhere(text, missing=random.choice([0, 0, 0, 1, 2, 9]))
        request = RequestId(f"r{self.arrivals}")
        running = ask_for(
            request,
            text,
            output=output,
            most=random.randrange(2, 10),
            stops=[STOP],
            hand_over=kind == "hand_over",
            handed_over=kind == "handed_over",
            ttft_s=random.choice([inf, -1.0, 0.05, 0.5]) if self.promises else inf,
            tpot_s=random.choice([inf, 0.005, 0.02, 0.1]) if self.promises else inf,
            priority=random.choice(list(Priority)) if self.promises else Priority.INTERACTIVE,
            cached=random.randrange(30) if self.promises else 0,
        )
        full = self.batcher.full
        refusal = self.batcher.add(running, now=self.now)
        assert (refusal is not None) == (full or len(text) + len(output) >= self.longest)
        if refusal is None:
            self.live[request] = Story(self.arrivals, [*text, *output], kind == "hand_over")
            self.prompts[request] = len(text)
        self.arrivals += 1

    def _written_elsewhere(self, text: list[int], missing: int) -> None:
        """Another worker's blocks are in the store, its short one included; but perhaps not the first ones."""
        chain, rest = names(text), len(text) % SIZE
        tail = (child_name(chain[-1] if chain else ROOT, text[-rest:]),) if rest else ()
        for index, name in enumerate((*chain, *tail)):
            ends = range(index * SIZE + 1, (index + 1) * SIZE + 1)
            if index >= missing:
                self._put(name, [tuple(text[:end]) if end <= len(text) else None for end in ends])

    def cancel(self, random: Random) -> None:
        """Anybody: whoever waits, loads, runs, is in the step that is under way, or was never here."""
        request = random.choice([*self.live, RequestId("stranger")])
        self.batcher.cancel(request)
        self.live.pop(request, None)

    # -- admission

    def admit(self) -> None:
        """In the order in which they came, a preempted one before all who came later."""
        queue = sorted((story.arrival, name) for name, story in self.live.items() if not story.seated)
        loads = self.batcher.admit(now=self.now)
        if not self.promises:
            assert [load.request for load in loads] == [name for _, name in queue[: len(loads)]]
        for load in loads:
            assert self.device.match(load.names[: load.reused]) == [block for _, block in load.held]
            self.live[load.request].seated = True
        assert sum(story.seated for story in self.live.values()) <= SEATS
        self.loads += loads

    def load(self, random: Random) -> None:
        """The store gives a prefix of what is missing: mostly all that it has. Sometimes for one who has left.

        One copy may be under way when its sequence is cancelled; it ends later, on blocks that are still pinned.
        """
        load = self.loads.pop(random.randrange(len(self.loads)))
        blocks = 0
        for name, target in zip(load.missing[: random.choice([0, 1, 99, 99, 99])], load.targets, strict=False):
            if name not in self.store or load.request not in self.live:
                break
            self.memory[target] = list(self.slots[self.store[name]])
            blocks += 1
        if blocks and random.random() < 0.1:
            self.device.pin(load.targets[:blocks])
            self.late.append((load.targets[:blocks], [self.memory[target] for target in load.targets[:blocks]]))
            self.batcher.cancel(load.request)
            del self.live[load.request]
        self.batcher.loaded(load.request, blocks)
        if load.request in self.live:
            self.live[load.request].loaded = True

    # -- steps

    def form(self) -> None:
        """The next batch; the youngest may have been preempted for it."""
        before = self.batcher.snapshot().preemptions
        self.flight = self.batcher.next(now=self.now)
        preempted = self.batcher.snapshot().preemptions - before
        droppable = [story for story in self.live.values() if story.loaded and not story.hand_over]
        for story in sorted(droppable, key=lambda story: -story.arrival)[:preempted]:
            story.seated = story.loaded = False
        if self.flight is None:
            assert not any(story.loaded for story in self.live.values())
            return
        assert self.flight.tokens <= max(TOKENS, SEATS + SIZE)
        assert all(self.live[piece.request].loaded for piece in self.flight.slices)
        self._nobody_writes_what_another_has(self.flight)

    def run(self, random: Random) -> None:
        """Compute, apply; the store gets what was filled."""
        batch, self.flight = self.flight, None
        assert batch is not None
        for piece in batch.slices:
            self._compute(piece.request, piece.tokens, piece.start, piece.blocks)
        for fill in batch.fills:
            self._put(fill.name, self._filled(fill))
        if random.random() < 0.3:
            self.pinned += [fill.block for fill in batch.fills if not fill.short]
            self.device.pin([fill.block for fill in batch.fills if not fill.short])
        tokens = [random.choice([0, 1, 2, 3, 3, STOP]) if piece.sampling else None for piece in batch.slices]
        progress = self.batcher.applied(batch, tokens, now=self.now)
        wanted = [piece.request for piece in batch.slices if piece.sampling]
        assert [each.request for each in progress] == [request for request in wanted if request in self.live]
        for each in progress:
            story = self.live[each.request]
            story.tokens.append(each.token)
            assert (each.finish is FinishReason.STOP) == (each.token == STOP)
            if each.finish is not None or story.hand_over:
                del self.live[each.request]

    def unpin(self) -> None:
        """What was being published is, and copies for those who have left end."""
        for targets, contents in self.late:
            for target, content in zip(targets, contents, strict=True):
                self.memory[target] = content
            self.device.unpin(targets)
        self.late.clear()
        for block in self.pinned:
            self.device.unpin([block])
        self.pinned.clear()

    # -- everything

    def happen(self, random: Random) -> None:
        """One of the things that can happen now, the usual ones more often."""
        self.now += 0.01 * random.random()
        usual, odd = random.random() < 0.8, random.random()
        if usual and self.flight is not None:
            self.run(random)
        elif usual and self.loads and odd < 0.8:
            self.load(random)
        elif usual and odd < 0.8:
            self.form()
        elif odd < 0.4:
            self.add(random)
        elif odd < 0.8:
            self.admit()
        elif odd < 0.9:
            self.unpin()
        elif odd < 0.98:
            self.cancel(random)
        else:
            self.device.forget()
        self.check()

    def check(self) -> None:
        """Blocks conserve, and everybody is where the world thinks."""
        self.device.check()
        snapshot = self.batcher.snapshot()
        assert set(snapshot.live) == set(self.live)
        assert snapshot.running == sum(story.loaded for story in self.live.values())
        assert snapshot.loading == sum(story.seated and not story.loaded for story in self.live.values())
        assert snapshot.waiting == len(self.live) - snapshot.running

    def come_to_rest(self, random: Random) -> None:
        """Left alone, every sequence ends, and then nothing is held."""
        for _ in range(1000):
            self.now += 0.01
            if self.flight is not None:
                self.run(random)
            self.unpin()
            self.admit()
            while self.loads:
                self.load(random)
            if not self.live:
                break
            self.form()
        self.unpin()
        assert not self.live
        self.check()
        assert self.device.pinned == 0

    # -- the engine and the store

    def _compute(self, request: RequestId, tokens: Sequence[int], start: int, blocks: Sequence[int]) -> None:
        past: Prefix = ()
        for position in range(start):
            seen = self.memory[blocks[position // SIZE]][position % SIZE]
            assert seen is not None, f"{request} reads KV that nobody wrote, at {position} of {start}"
            assert seen[:-1] == past, f"{request} reads another's KV at {position} of {start}"
            past = seen
        if request in self.live:
            assert [*past, *tokens] == self.live[request].tokens[: start + len(tokens)]
        for place, token in enumerate(tokens, start=start):
            past = (*past, token)
            self.memory[blocks[place // SIZE]][place % SIZE] = past

    def _filled(self, fill: Fill) -> Block:
        """What its name stands for; behind a short block's tokens lies what was there before."""
        written = self.prompts[fill.request] % SIZE if fill.short else SIZE
        return [*self.memory[fill.block][:written], *[None] * (SIZE - written)]

    def _put(self, name: BlockName, block: Sequence[Prefix | None]) -> None:
        if name in self.store:
            assert self.slots[self.store[name]] == block, "one name, two contents"
        self.store[name] = len(self.slots)
        self.slots.append(list(block))

    def _nobody_writes_what_another_has(self, batch: Batch) -> None:
        written: list[int] = []
        for piece in batch.slices:
            written += piece.blocks[piece.start // SIZE : -(-(piece.start + len(piece.tokens)) // SIZE)]
        assert len(written) == len(set(written))
        readers: dict[int, set[RequestId]] = {}
        for piece in batch.slices:
            for block in piece.blocks:
                readers.setdefault(block, set()).add(piece.request)
        assert all(len(readers[block]) == 1 for block in written), "written by one, held by another"
