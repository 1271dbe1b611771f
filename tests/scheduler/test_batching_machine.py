"""A batcher under anything that may happen to it, against an engine and a store that remember every token.

The engine writes, per block and offset, the whole prefix that the KV there stands for, so a slice that
would read anything but its own past is seen at once, whoever misnamed, shared or freed a block.
"""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule
from kvstore.names import BlockName, child_name
from scheduler.batch import Batch
from scheduler.batching import Load
from scheduler.vocabulary import FinishReason, RequestId

from tests.scheduler.build import ROOT, SIZE, ask_for, batcher, names

BLOCKS, SEATS, TOKENS, CONTEXT = 12, 4, 9, 40
STOP = 9

Prefix = tuple[int, ...]

texts = st.builds(
    # Few beginnings, so that prefixes are shared; and lengths around whole blocks.
    lambda start, length, end: ([start, *range(length)] + end)[: CONTEXT - 8],
    st.integers(0, 2),
    st.integers(0, 18),
    st.lists(st.integers(0, 8), max_size=3),
)


class World(RuleBasedStateMachine):
    loads = Bundle("loads")

    def __init__(self) -> None:
        super().__init__()
        self.batcher, self.device = batcher(BLOCKS, seats=SEATS, tokens=TOKENS, context=CONTEXT, waiting=6)
        self.memory: list[list[Prefix | None]] = [[None] * SIZE for _ in range(BLOCKS)]
        self.slots: list[list[Prefix | None]] = []
        self.store: dict[BlockName, int] = {}
        self.tokens: dict[RequestId, list[int]] = {}
        self.handoffs: dict[RequestId, list[int]] = {}
        self.queue: list[RequestId] = []
        self.published: list[int] = []
        self.flight: Batch | None = None
        self.count = 0

    # -- coming and going

    @rule(text=texts, most=st.integers(1, 6), kind=st.sampled_from(["alone", "alone", "hand_over", "resumed"]))
    def add(self, text: list[int], most: int, kind: str) -> None:
        request = RequestId(f"r{self.count}")
        self.count += 1
        output = [5] if kind == "resumed" else []
        running = ask_for(
            request, text, output=output, most=most + len(output), stops=[STOP], hand_over=kind == "hand_over"
        )
        refusal = self.batcher.add(running, now=0)
        if refusal is None:
            self.tokens[request] = [*text, *output]
            self.queue.append(request)
        else:
            assert len(text) + len(output) >= CONTEXT or self.batcher.full
        if kind == "hand_over" and refusal is None:
            self.handoffs[request] = text

    @rule(text=texts, missing=st.integers(0, 4), most=st.integers(2, 6))
    def hand_over_from_elsewhere(self, text: list[int], missing: int, most: int) -> None:
        """Another worker's blocks are in the store, its short one included; but perhaps not the first ones."""
        rest = len(text) % SIZE
        chain = names(text)
        tail = (child_name(chain[-1] if chain else ROOT, text[-rest:]),) if rest else ()
        for index, name in enumerate((*chain, *tail)):
            if index >= missing:
                block = [
                    tuple(text[: index * SIZE + offset + 1]) if index * SIZE + offset < len(text) else None
                    for offset in range(SIZE)
                ]
                self._put(name, block)
        request = RequestId(f"r{self.count}")
        self.count += 1
        running = ask_for(request, text, output=[5], most=most, stops=[STOP], handed_over=True)
        if self.batcher.add(running, now=0) is None:
            self.tokens[request] = [*text, 5]
            self.queue.append(request)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.tokens)))
        self.batcher.cancel(request)
        self._gone(request)

    @rule()
    def cancel_a_stranger(self) -> None:
        self.batcher.cancel(RequestId("stranger"))

    # -- admission

    @rule(target=loads)
    def admit(self) -> object:
        loads = self.batcher.admit(now=0)
        # In the order in which they came; and whoever was preempted stands at the front again.
        assert [load.request for load in loads] == self.queue[: len(loads)]
        del self.queue[: len(loads)]
        snapshot = self.batcher.snapshot()
        assert snapshot.running + snapshot.loading <= SEATS
        for load in loads:
            assert self.device.match(load.names[: load.reused]) == [block for _, block in load.held]
        return multiple(*loads)

    @rule(load=consumes(loads), had=st.integers(0, 10))
    def loaded(self, load: Load, had: int) -> None:
        """The store gives a prefix of what is missing, as much as it has, or less."""
        slots = []
        for name in load.missing[:had]:
            if name not in self.store:
                break
            slots.append(self.store[name])
        self.batcher.loaded(load.request, slots)

    # -- steps

    @precondition(lambda self: self.flight is None)
    @rule()
    def next(self) -> None:
        before = self.batcher.snapshot()
        batch = self.flight = self.batcher.next(now=0)
        after = self.batcher.snapshot()
        if after.preemptions > before.preemptions:
            self._requeue()
        if batch is None:
            assert before.running == 0 or after.preemptions > before.preemptions
            return
        assert batch.tokens <= max(TOKENS, SEATS + SIZE)
        assert len({piece.request for piece in batch.slices}) == len(batch.slices) <= SEATS
        self._nobody_writes_what_another_has(batch)

    @precondition(lambda self: self.flight is not None)
    @rule(tokens=st.lists(st.sampled_from([0, 1, 2, 3, STOP]), min_size=SEATS, max_size=SEATS), publish=st.booleans())
    def run_and_apply(self, tokens: list[int], publish: bool) -> None:
        batch, self.flight = self.flight, None
        assert batch is not None
        for lift in batch.lifts:
            self.memory[lift.copy.block] = list(self.slots[lift.copy.slot])
        for piece in batch.slices:
            self._compute(piece.request, piece.tokens, piece.start, piece.blocks)
        for fill in batch.fills:
            assert not fill.short or fill.request in self.handoffs or fill.request not in self.tokens
            self._put(fill.name, self.memory[fill.block])
        if publish:
            held = [fill.block for fill in batch.fills if not fill.short]
            self.device.pin(held)
            self.published += held
        drawn = [
            token if piece.sampling is not None else None for piece, token in zip(batch.slices, tokens, strict=False)
        ]
        progress = self.batcher.applied(batch, drawn, now=0)
        assert [each.request for each in progress] == [
            piece.request for piece in batch.slices if piece.sampling is not None and piece.request in self.tokens
        ]
        for each in progress:
            self.tokens[each.request].append(each.token)
            assert (each.finish is FinishReason.STOP) == (each.token == STOP)
            if each.finish is not None or each.request in self.handoffs:
                self._gone(each.request)

    @precondition(lambda self: self.flight is not None)
    @rule(data=st.data())
    def unlifted(self, data: st.DataObject) -> None:
        batch, self.flight = self.flight, None
        assert batch is not None
        lifting = sorted({lift.request for lift in batch.lifts})
        if lifting:
            self.batcher.unlifted(batch, set(data.draw(st.lists(st.sampled_from(lifting), min_size=1))))
        else:
            self.batcher.unlifted(batch, set())

    @precondition(lambda self: self.flight is not None)
    @rule(data=st.data())
    def cancel_in_flight(self, data: st.DataObject) -> None:
        assert self.flight is not None
        request = data.draw(st.sampled_from([piece.request for piece in self.flight.slices]))
        self.batcher.cancel(request)
        self._gone(request)

    @rule()
    def unpin_published(self) -> None:
        for block in self.published:
            self.device.unpin([block])
        self.published.clear()

    @rule()
    def forget(self) -> None:
        self.device.forget()

    # -- what always holds

    @invariant()
    def blocks_conserve(self) -> None:
        self.device.check()

    @invariant()
    def everybody_is_known(self) -> None:
        snapshot = self.batcher.snapshot()
        assert set(snapshot.live) == set(self.tokens)
        assert snapshot.running + snapshot.waiting == len(snapshot.live)
        assert snapshot.waiting - snapshot.loading == len(self.queue)
        assert snapshot.prefill_tokens_queued >= 0

    def teardown(self) -> None:
        """Left alone, every sequence ends, and then nothing is held."""
        self.unpin_published()
        if self.flight is not None:
            self.batcher.applied(self.flight, [STOP if piece.sampling else None for piece in self.flight.slices], now=0)
        for request in self.batcher.snapshot().live:
            self.batcher.loaded(request, ())
        for _ in range(400):
            for load in self.batcher.admit(now=0):
                self.batcher.loaded(load.request, ())
            batch = self.batcher.next(now=0)
            if batch is not None:
                self.batcher.applied(batch, [0 if piece.sampling else None for piece in batch.slices], now=0)
        assert self.batcher.snapshot().live == ()
        self.device.check()
        assert self.device.pinned == 0

    # -- the engine and the store

    def _compute(self, request: RequestId, tokens: Sequence[int], start: int, blocks: Sequence[int]) -> None:
        past: Prefix = ()
        for position in range(start):
            seen = self.memory[blocks[position // SIZE]][position % SIZE]
            assert seen is not None, f"{request} reads KV that nobody wrote, at {position} of {start}"
            assert seen[:-1] == past, f"{request} reads another's KV at {position} of {start}"
            past = seen
        if request in self.tokens:
            assert [*past, *tokens] == self.tokens[request][: start + len(tokens)]
        for offset, token in enumerate(tokens):
            past = (*past, token)
            place = start + offset
            self.memory[blocks[place // SIZE]][place % SIZE] = past

    def _put(self, name: BlockName, block: Sequence[Prefix | None]) -> None:
        self.store[name] = len(self.slots)
        self.slots.append(list(block))

    def _nobody_writes_what_another_has(self, batch: Batch) -> None:
        written = [
            block
            for piece in batch.slices
            for block in piece.blocks[piece.start // SIZE : -(-(piece.start + len(piece.tokens)) // SIZE)]
        ]
        written += [lift.copy.block for lift in batch.lifts if lift.copy.block not in written]
        assert len(written) == len(set(written))
        for piece in batch.slices:
            others = [block for other in batch.slices if other is not piece for block in other.blocks]
            assert not set(piece.blocks[piece.start // SIZE :]) & set(others)

    def _gone(self, request: RequestId) -> None:
        self.tokens.pop(request, None)
        self.handoffs.pop(request, None)
        if request in self.queue:
            self.queue.remove(request)

    def _requeue(self) -> None:
        """Preempted sequences are the youngest of those that ran; together with who waits, in order of arrival."""
        running = {piece.request for piece in self.flight.slices} if self.flight is not None else set()
        snapshot = self.batcher.snapshot()
        waiting = snapshot.waiting - snapshot.loading
        arrived = sorted(snapshot.live, key=lambda request: int(request[1:]))
        out = [each for each in arrived if each not in running and each not in self.queue]
        self.queue = (out[-(waiting - len(self.queue)) :] if waiting > len(self.queue) else []) + self.queue


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
