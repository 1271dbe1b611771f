"""Form the batches of one worker: who gets a seat, what each step computes, who makes room.

A plain object that the worker's loop and the simulator run alike: no clock, no engine, no
store. Blocks are accounted for in ``DeviceBlocks``; a block is named there only when the step
that fills it was applied, and never written while anyone else could read it.

    add -> waiting -> admit -> loading -> loaded -> [ next -> applied ]* -> left
           (queue.py) seat and blocks               one batch in flight at a time

A step spends its budgets in order: first one token for every decoding sequence, then prefill
chunks (chunks.py), as queue.py orders them, with the tokens and the seconds that are left, and as the promises of
those who decode allow (tempo.py). Chunks start on block boundaries, so that the arithmetic of a tile does not
depend on how a prompt was cut.
"""

from bisect import insort
from collections.abc import Sequence
from math import inf
from operator import attrgetter

from kvstore.device import DeviceBlocks
from kvstore.names import block_names
from scheduler.batch import Batch, Fill, Slice
from scheduler.chunks import Chunks
from scheduler.progress import BatcherSnapshot, BatchLimits, FirstToken, Progress
from scheduler.queue import Queue
from scheduler.reservation import Load, reserve
from scheduler.sequence import AWAITED, Event, Phase, Running, fills
from scheduler.tempo import held_until_s
from scheduler.vocabulary import Profile, RequestId

_ARRIVAL = attrgetter("arrival")
_NOTHING: frozenset[int] = frozenset()


class Batcher:
    """See the module. ``blocks`` may be pinned by others too, e.g. while they are being published."""

    def __init__(self, blocks: DeviceBlocks, *, block_tokens: int, limits: BatchLimits, profile: Profile) -> None:
        self.profile = profile
        self._device = blocks
        self._block_tokens = block_tokens
        self._limits = limits
        # Every seat may decode and one block can still be prefilled: less would starve prefills behind decodes.
        max_tokens = max(limits.max_num_batched_tokens, limits.max_num_seqs + block_tokens)
        self._chunks = Chunks(blocks, block_tokens=block_tokens, max_tokens=max_tokens, max_step_s=limits.max_step_s)
        self._longest = min(limits.max_model_len, blocks.total * block_tokens)
        self._live: dict[RequestId, Running] = {}
        self._waiting = Queue()
        self._seated: dict[RequestId, Running] = {}
        # Both ordered by arrival.
        self._prefilling: list[Running] = []
        self._decoding: list[Running] = []
        self._flight: Batch | None = None
        self._flying: list[Running] = []
        self._arrivals = 0
        self._preemptions = 0
        self._stuck: tuple[Running, int] | None = None

    # -- coming and going ---------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """The queue takes no more."""
        return len(self._waiting) >= self._limits.max_waiting

    def add(self, new: Running, *, now: float) -> str | None:
        """Queue a sequence, or say in a sentence why not: it can never run here, or (``full``) the queue is full."""
        refusal = self._refusal(new)
        if refusal is None:
            if not new.names:
                new.names = block_names(new.root, new.known, self._block_tokens)
            new.came(self._arrivals, self.profile, now=now)
            self._arrivals += 1
            self._live[new.request] = new
            self._waiting.add(new)
        return refusal

    def _refusal(self, new: Running) -> str | None:
        tokens, context, most = len(new.tokens), self._limits.max_model_len, new.limits.max_tokens
        if new.request in self._live:
            return f"request {new.request} is running here already"
        if not new.prompt:
            return "the prompt is empty"
        if new.generated >= most:
            return f"nothing is left to generate: {new.generated} of at most {most} tokens were given out"
        if tokens >= context:
            return f"{tokens} tokens leave no room to generate: the context is {context} tokens"
        if tokens >= self._longest:
            return f"{tokens} tokens can never fit: this worker's KV cache holds {self._longest} tokens"
        if self.full:
            return f"this worker's queue is full ({len(self._waiting)} waiting)"
        return None

    def cancel(self, request: RequestId) -> None:
        """The sequence leaves, whatever its phase; its blocks are free now, or after the step in flight. Idempotent."""
        running = self._live.get(request)
        if running is not None:
            self._leave(running)
            if running not in self._flying:
                self._give_back(running)

    def _leave(self, running: Running) -> None:
        """Out of every list; its blocks are still held."""
        self._unlist(running)
        running.happened(Event.LEFT)
        del self._live[running.request]
        self._seated.pop(running.request, None)

    def _unlist(self, running: Running) -> None:
        match running.phase:
            case Phase.WAITING:
                self._waiting.remove(running)
            case Phase.PREFILLING:
                self._prefilling.remove(running)
            case Phase.DECODING:
                self._decoding.remove(running)

    def _give_back(self, running: Running) -> None:
        self._device.unpin(running.blocks)
        running.blocks, running.reused, running.computed = [], 0, 0

    # -- admission ----------------------------------------------------------------------------------------------

    def admit(self, *, now: float) -> list[Load]:
        """Seat whoever's turn it is while seats and blocks last; stop at the first who does not fit.

        Call it again whenever blocks were unpinned by others, too: a sequence may be waiting for just those.
        """
        loads: list[Load] = []
        while (head := self._may_sit(now)) is not None:
            free = self._device.free
            load = reserve(head, self._device, self._block_tokens)
            if load is None:
                self._stuck = (head, free)
                break
            self._waiting.seat(head)
            self._seated[head.request] = head
            head.happened(Event.ADMITTED)
            loads.append(load)
        return loads

    def _may_sit(self, now: float) -> Running | None:
        """Whom to find blocks for."""
        if len(self._seated) >= self._limits.max_num_seqs:
            return None
        head = self._waiting.head(now=now)
        if head is None or self._stuck == (head, self._device.free):
            return None  # nothing has changed; to match a long prompt again at every step could cost more than the step
        return head if now >= self._held_until_s(head) else None

    def _held_until_s(self, head: Running) -> float:
        """Who was set back had its seat before, so nobody looks at promises again."""
        if head.first_token_given or head.started_s is not None:
            return -inf
        return held_until_s(head, self._seated.values(), self.profile)

    def began(self, request: RequestId, token: int, *, now: float) -> None:
        """A handoff's AWAITED token is this one. Ignored where it was cancelled."""
        running = self._live.get(request)
        if running is not None:
            running.began(token, now=now)

    def loaded(self, request: RequestId, blocks: int) -> None:
        """``Load.missing[:blocks]`` have been copied to ``Load.targets``; the rest is computed. No token is awaited.

        Ignored unless that sequence is loading: it may have been cancelled, and its blocks be others' as soon as
        nobody pins them; so whoever copies pins the targets meanwhile.
        """
        running = self._live.get(request)
        if running is None or running.phase is not Phase.LOADING:
            return
        assert running.tokens[-1] != AWAITED, f"{request} can't run without its first token"
        size, last = self._block_tokens, len(running.tokens) - 1
        held = running.reused + blocks
        whole = -(-last // size) if running.handed_over else last // size
        assert held <= whole, f"{request} has {whole} blocks to reuse, not {held}"
        for index in range(running.reused, min(held, last // size)):  # what is behind is a handoff's short block
            self._device.name(running.blocks[index], running.names[index])
        running.computed = running.filled = min(held * size, last)
        if running.cached_tokens is None:
            running.cached_tokens = 0 if running.handed_over else min(running.computed, running.prompt)
        if running.computed == last and not running.hand_over:
            running.happened(Event.LOADED_WHOLE)
            insort(self._decoding, running, key=_ARRIVAL)
        else:
            running.happened(Event.LOADED)
            insort(self._prefilling, running, key=_ARRIVAL)

    # -- a step -------------------------------------------------------------------------------------------------

    def next(self, *, now: float) -> Batch | None:
        """The next step, to be answered by ``applied``; None where nobody can run now.

        A slice's blocks are a live view, right until then.
        """
        assert self._flight is None, "one batch at a time"
        self._make_room()
        slices: list[Slice] = []
        filled: list[Fill] = []
        size, kv_tokens = self._block_tokens, 0
        for running in self._decoding:
            start = running.computed
            kv_tokens += start + 1
            if running.started_s is None:
                running.started_s = now
            if not (start + 1) % size:
                filled += fills(running, start, start + 1, size)
            forbidden = running.forbidden if running.limits.min_tokens else _NOTHING
            piece, context = (running.tokens[start],), running.penalized
            sampling = running.sampling
            slices.append(
                Slice(running.request, piece, start, running.blocks, sampling, forbidden, context, running.prompt)
            )
        self._flying = self._decoding.copy()
        if self._prefilling:
            self._prefill(slices, filled, kv_tokens, now)
        if slices:
            self._flight = Batch(tuple(slices), tuple(filled))
        return self._flight

    def _make_room(self) -> None:
        """A block for every decoding sequence that stands before a new one, oldest first; the youngest pay for it."""
        size, place = self._block_tokens, 0
        while place < len(self._decoding):
            running = self._decoding[place]
            if running.computed >= len(running.blocks) * size:
                block = self._device.take(1, after=running.blocks[-1])
                if block is None:
                    self._preempt(self._youngest())
                    continue  # with the same sequence, or, if it was itself the youngest, with who is in its place now
                running.blocks += block
            place += 1

    def _youngest(self) -> Running:
        """The sequence to drop.

        Not one that is to be handed over: its blocks are promised to the store, it needs no more of them, and it
        leaves soon. The sequence that needs a block is no such one, so there always is somebody.
        """
        droppable = (each for each in (*self._decoding, *self._prefilling) if not each.hand_over)
        return max(droppable, key=_ARRIVAL)

    def _preempt(self, victim: Running) -> None:
        """Back to the front of the queue; what it had published comes back by admission, from device or store."""
        self._unlist(victim)
        victim.happened(Event.PREEMPTED)
        self._give_back(victim)
        victim.handed_over = False  # the short block of its handoff is gone with its lease
        del self._seated[victim.request]
        self._waiting.set_back(victim)
        self._preemptions += 1

    def _prefill(self, slices: list[Slice], filled: list[Fill], kv_tokens: int, now: float) -> None:
        """What decodes have left is spent on chunks."""
        chunks = self._chunks.cut(self._prefilling, self._decoding, self.profile, kv_tokens=kv_tokens, now=now)
        for running, start, end in chunks:
            # As far as whoever lowers them can tell, a handoff's blocks are filled by its own steps: all of them.
            filled += fills(running, running.filled if running.hand_over else start, end, self._block_tokens)
            running.filled = end
            if running.started_s is None:
                running.started_s = now
            done = end == len(running.tokens)
            sampling = running.sampling if done else None
            forbidden = running.forbidden if done else _NOTHING
            context = running.penalized if done else ()
            piece = running.tokens[start:end]
            slices.append(
                Slice(running.request, piece, start, running.blocks, sampling, forbidden, context, running.prompt)
            )
            self._flying.append(running)

    # -- what became of it --------------------------------------------------------------------------------------

    def applied(self, batch: Batch, tokens: Sequence[int | None], *, now: float) -> list[Progress]:
        """The step was run and gave these tokens, one entry per slice. What it filled is named now.

        Whoever still reads blocks of this batch pins them before this call: sequences that end give theirs back.
        """
        assert batch is self._flight, "not the batch in flight"
        flying, self._flying, self._flight = self._flying, [], None
        assert len(tokens) == len(flying), f"{len(flying)} slices, {len(tokens)} results"
        for fill in batch.fills:
            if not fill.short:
                self._device.name(fill.block, fill.name)
        progress: list[Progress] = []
        for running, piece, token in zip(flying, batch.slices, tokens, strict=True):
            if running.phase is Phase.ENDED:
                self._give_back(running)  # cancelled meanwhile
                continue
            running.computed = piece.start + len(piece.tokens)
            if token is not None:
                progress.append(self._sampled(running, token, now))
        return progress

    def _sampled(self, running: Running, token: int, now: float) -> Progress:
        running.tokens.append(token)
        if running.phase is Phase.PREFILLING or not running.first_token_given:
            running.gave(now=now)
        finish = running.finish(self._longest)
        first = None
        if not running.first_token_given:
            running.first_token_given = True
            assert running.started_s is not None, "it has had a slice"
            assert running.cached_tokens is not None, "it was loaded"
            first = FirstToken(running.cached_tokens, running.started_s - running.arrived_s, now - running.started_s)
        if finish is not None or running.hand_over:
            self._leave(running)
            self._give_back(running)
        elif running.phase is Phase.PREFILLING:
            self._prefilling.remove(running)
            running.happened(Event.CAUGHT_UP)
            insort(self._decoding, running, key=_ARRIVAL)
        return Progress(running.request, token, finish, first)

    def snapshot(self) -> BatcherSnapshot:
        taking_part = [*self._prefilling, *self._decoding]
        to_prefill = [
            (len(each.tokens), each.spared(self._block_tokens))
            for each in self._live.values()
            # What a handoff brings is lifted; until it is known to be missing, it is no work.
            if each.phase is Phase.PREFILLING or (each.phase is not Phase.DECODING and not each.handed_over)
        ]
        return BatcherSnapshot(
            running=len(taking_part),
            waiting=len(self._live) - len(taking_part),
            loading=len(self._live) - len(taking_part) - len(self._waiting),
            prefill_tokens_queued=sum(n - p for n, p in to_prefill),
            kv_tokens=sum(each.computed for each in taking_part),
            live=tuple(self._live),
            preemptions=self._preemptions,
            prefills_queued=sum(n > p for n, p in to_prefill),
            prefill_squares_queued=sum(n * n - p * p for n, p in to_prefill),
        )
