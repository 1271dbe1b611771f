"""An engine without a model, in which every misplaced byte of KV changes the text.

Arithmetic is exact (integers mod 2^64), so a sequence has one text, however it was cut, batched or moved.
For layer l and position i, with x_0[i] = mix(token i, i) and weights w_l[j] that differ by layer and position:

    kv_l[i]    = kv_l[i - 1] + mix(x_l[i])                  a running checksum of everything before it
    x_l+1[i]   = mix(x_l[i] ^ sum of kv_l[j] * w_l[j], j <= i)       "attention": reads all of the KV

The next token is a function of x after the last layer. Unwritten pages are poisoned.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

from engine.bounds import assert_within
from engine.chance import uniform
from engine.costs import batch_s
from engine.port import EngineError, OnLayer, StepResult
from kvstore.checksum import block_checksum
from kvstore.layout import KvLayout
from scheduler import estimate
from scheduler.batch import Batch, Copy, Slice
from scheduler.vocabulary import Profile, Sampling

Words = NDArray[np.uint64]

END_OF_TEXT = 256
"""The first id behind the 256 bytes of the byte-level tokenizer."""

ENDS_ONE_IN = 16_384
"""How rarely a candidate is END_OF_TEXT: a text of 64 tokens ends by itself once in 256."""

CANDIDATES = 16
"""Tokens that sampling can choose from; the k-th has weight exp(-k / temperature)."""

PADDED_LAYER, PADDING_BYTES = 1, 64
"""Layers may differ in bytes, so one does: whoever assumes equal layers reads the wrong ones here."""

OWN_PROFILE = Profile(prefill_s=(4e-4, 4e-7, 0.0), step_s=(1e-4, 1e-4, 4e-9), transfer_s=(0.0, 1e-9))
"""About what the checksums themselves take on one core: ~25 us per sequence and layer, whatever its length."""

_POISON = np.uint64(0xDEAD_BEEF_DEAD_BEEF)
_GOLDEN = 0x9E37_79B9_7F4A_7C15
_WORD = 0xFFFF_FFFF_FFFF_FFFF


def toy_layout(block_tokens: int = 64, layers: int = 4, layer_bytes: int = 0) -> KvLayout:
    """8 bytes a token and layer, and padding up to layer_bytes (a multiple of 8); one layer has some more behind it."""
    assert layer_bytes % 8 == 0, f"pages are made of words of 8 bytes, so {layer_bytes} can't be a layer's"
    size = max(8 * block_tokens, layer_bytes)
    sizes = tuple(size + (PADDING_BYTES if layer == PADDED_LAYER else 0) for layer in range(layers))
    return KvLayout(block_tokens, sizes, f"tokens={block_tokens} uint64")


def _mix(words: Words) -> Words:
    """splitmix64's finalizer (Steele et al., OOPSLA'14): every bit of the input moves every bit of the output."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return words ^ (words >> np.uint64(31))


@dataclass(slots=True)
class _Row:
    """A slice on its way through the layers. x: one word per token of the slice."""

    piece: Slice
    blocks: NDArray[np.intp]
    offsets: NDArray[np.intp]
    x: Words


class ToyEngine:
    """See the module; the methods are ``engine.port.Engine``'s.

    seed makes the weights, so toys of different seeds are different models. layer_bytes: of a block in a
    layer, at least, for copies and transfers of a real model's size. profile is what ``warm_up`` returns;
    with ``sleep``, every step and copy also takes that long, a layer's share before each layer is done. clock: what
    computing the checksums takes by it is part of that, else it comes on top.
    """

    def __init__(
        self,
        blocks_total: int,
        *,
        block_tokens: int = 64,
        layers: int = 4,
        layer_bytes: int = 0,
        max_model_len: int = 8192,
        vocab_size: int = 512,
        seed: int = 0,
        profile: Profile = OWN_PROFILE,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if blocks_total < 1:
            raise EngineError(f"the toy engine needs at least one block, not {blocks_total}")
        if vocab_size <= END_OF_TEXT:
            raise EngineError(f"the toy engine needs a vocabulary beyond {END_OF_TEXT}, not of {vocab_size} tokens")
        self.layout = toy_layout(block_tokens, layers, layer_bytes)
        self.blocks_total, self.max_model_len, self.vocab_size = blocks_total, max_model_len, vocab_size
        self.dtype = "uint64"
        description = f"toy 1 seed={seed} layers={layers} vocab_size={vocab_size}"
        self.weights = hashlib.sha256(description.encode()).hexdigest()
        self._salt = int(self.weights[:16], 16)
        self._profile, self._sleep, self._clock = profile, sleep, clock
        # [layers, max_model_len]; odd, so that no bit of any KV word is multiplied away.
        # A function of layer and position alone: a toy with a longer context is the same model.
        places = (
            np.arange(max_model_len, dtype=np.uint64) + (np.arange(layers, dtype=np.uint64) << np.uint64(32))[:, None]
        )
        self._attention = _mix(places * np.uint64(_GOLDEN) + np.uint64(self._salt)) | np.uint64(1)
        # One array a layer: [blocks_total, words of a page].
        self._pages = [np.full((blocks_total, size // 8), _POISON, np.uint64) for size in self.layout.layer_bytes]
        self._arena: NDArray[np.uint8] | None = None
        self._slot_bytes = 0

    def warm_up(self) -> Profile:
        return self._profile

    # -- computing ----------------------------------------------------------------------------------------------

    def run(self, batch: Batch, on_layer: OnLayer | None = None) -> StepResult:
        assert_within(self, batch)
        rows = [self._row(piece) for piece in batch.slices]
        share_s = self._seconds(batch) / self.layout.layers
        began_s = self._now()
        for layer in range(self.layout.layers):
            for row in rows:
                self._compute(row, layer)
            due_s = share_s if self._clock is None else began_s + share_s * (layer + 1) - self._now()
            self._wait(due_s)
            if on_layer is not None:
                on_layer(layer)
        return StepResult(tuple(self._sample(row) for row in rows))

    def _row(self, piece: Slice) -> _Row:
        size, ids = self.layout.block_tokens, np.asarray(piece.tokens, dtype=np.uint64)
        positions = np.arange(piece.start, piece.end, dtype=np.intp)
        words = ids * np.uint64(_GOLDEN) + positions.astype(np.uint64) + np.uint64(self._salt)
        blocks = np.asarray(piece.blocks[: -(-piece.end // size)], dtype=np.intp)
        return _Row(piece, blocks, positions, _mix(words))

    def _compute(self, row: _Row, layer: int) -> None:
        """Write the slice's KV of this layer, and move its x to the next."""
        size, pages, start = self.layout.block_tokens, self._pages[layer], row.piece.start
        weights = self._attention[layer]
        added = np.cumsum(_mix(row.x + np.uint64(layer)), dtype=np.uint64)
        attended = np.zeros(1, np.uint64)
        if start:
            before = pages[row.blocks[: -(-start // size)], :size].reshape(-1)[:start]
            added += before[-1:]
            attended += np.dot(before, weights[:start])
        pages[row.blocks[row.offsets // size], row.offsets % size] = added
        row.x = _mix(row.x ^ (attended + np.cumsum(added * weights[start : row.piece.end], dtype=np.uint64)))

    def _seconds(self, batch: Batch) -> float:
        if self._sleep is None:
            return 0.0
        return batch_s(self._profile, batch)

    def _now(self) -> float:
        return 0.0 if self._clock is None else self._clock()

    def _wait(self, seconds: float) -> None:
        if self._sleep is not None and seconds > 0.0:
            self._sleep(seconds)

    # -- choosing -----------------------------------------------------------------------------------------------

    def _sample(self, row: _Row) -> int | None:
        sampling, forbidden = row.piece.sampling, row.piece.forbidden
        if sampling is None:
            return None
        state = int(row.x[-1])
        seeds = np.uint64(state) + np.arange(CANDIDATES, dtype=np.uint64) * np.uint64(_GOLDEN)
        candidates = [token for token in map(_token, _mix(seeds).tolist()) if token not in forbidden]
        if not candidates:
            return next(token for token in range(self.vocab_size) if token not in forbidden)
        logits = [float(CANDIDATES - rank) for rank in range(len(candidates))]
        if sampling.penalizes:
            candidates, logits = _penalized(candidates, logits, sampling, row.piece)
        # The draw's position is that of the token that is sampled, as in every engine.
        return candidates[_rank(sampling, logits, row.piece.end)]

    # -- copying ------------------------------------------------------------------------------------------------

    def attach(self, arena: memoryview, slot_bytes: int) -> None:
        assert slot_bytes >= self.layout.block_bytes, "a slot holds a whole block"
        self._arena, self._slot_bytes = np.frombuffer(arena, dtype=np.uint8), slot_bytes

    def detach(self) -> None:
        self._arena = None

    def lift(self, copies: Sequence[Copy]) -> None:
        self._wait(len(copies) * estimate.transfer_s(self._profile, self.layout.block_bytes))
        for copy in copies:
            for layer in range(self.layout.layers):
                self._page(layer, copy.block)[:] = self._slot(layer, copy.slot)

    def lower(self, copies: Sequence[Copy]) -> tuple[int, ...]:
        for layer in range(self.layout.layers):
            self.lower_layer(copies, layer)
        return tuple(self._checksum(copy.slot) for copy in copies)

    def lower_layer(self, copies: Sequence[Copy], layer: int) -> None:
        for copy in copies:
            self._slot(layer, copy.slot)[:] = self._page(layer, copy.block)

    def _checksum(self, slot: int) -> int:
        assert self._arena is not None, "no arena is attached"
        start = slot * self._slot_bytes
        return block_checksum(self._arena[start : start + self.layout.block_bytes].data)

    def _page(self, layer: int, block: int) -> NDArray[np.uint8]:
        page: NDArray[np.uint8] = self._pages[layer][block].view(np.uint8)
        return page

    def _slot(self, layer: int, slot: int) -> NDArray[np.uint8]:
        assert self._arena is not None, "no arena is attached"
        start = slot * self._slot_bytes + self.layout.layer_offsets[layer]
        view = self._arena[start : start + self.layout.layer_bytes[layer]]
        assert view.size == self.layout.layer_bytes[layer], f"slot {slot} lies beyond the arena"
        return view


def _token(word: int) -> int:
    """Printable ASCII, so that a byte-level tokenizer shows text; rarely the end."""
    return END_OF_TEXT if word % ENDS_ONE_IN == 0 else 32 + (word >> 32) % 95


def _penalized(
    candidates: list[int], logits: list[float], sampling: Sampling, piece: Slice
) -> tuple[list[int], list[float]]:
    """Candidates and their logits (all positive), best first again, once those that the context has are penalized."""
    seen, output = set(piece.context), Counter(piece.context[piece.prompt :])

    def logit(token: int, before: float) -> float:
        kept = before / sampling.repetition_penalty if token in seen else before
        return kept - sampling.frequency_penalty * output[token] - sampling.presence_penalty * (token in output)

    rows = sorted(zip(map(logit, candidates, logits), candidates, strict=True), key=lambda row: -row[0])
    return [token for _, token in rows], [value for value, _ in rows]


def _rank(sampling: Sampling, logits: Sequence[float], position: int) -> int:
    """Which candidate of these, best first: the first when greedy, else by one uniform draw."""
    if sampling.temperature <= 0.0:
        return 0
    weights = [exp((logit - logits[0]) / sampling.temperature) for logit in logits]
    if sampling.top_k:
        weights = weights[: sampling.top_k]
    weights = [weight for weight in weights if weight >= sampling.min_p * weights[0]]
    total, kept, mass = sum(weights), 0, 0.0
    while kept < len(weights) and (kept == 0 or mass < sampling.top_p * total):
        mass += weights[kept]
        kept += 1
    left = uniform(sampling.seed, position) * mass
    for rank in range(kept):
        left -= weights[rank]
        if left < 0.0:
            return rank
    return kept - 1
