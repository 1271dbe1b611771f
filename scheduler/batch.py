"""What one engine step is told to do, as values.

A batch says which tokens to compute for whom, and which blocks will be complete
afterwards. The batcher makes it, an engine runs it, and the simulator prices it;
none of them changes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.names import BlockName
from scheduler.vocabulary import RequestId, Sampling


@dataclass(frozen=True, slots=True)
class Copy:
    """One whole block between a slot of the host's arena and a device block."""

    slot: int
    block: int


# Made by the dozen in every step, and freezing one costs three times what making it does. Nobody changes one.
@dataclass(slots=True, unsafe_hash=True)
class Slice:
    """The tokens of one sequence that this step computes: absolute positions [start, start + len(tokens)).

    blocks: the sequence's device blocks in order, covering at least start + len(tokens)
    tokens; position i lives in blocks[i // block_tokens] at offset i % block_tokens.
    KV of [0, start) is there already. sampling None: no token is wanted (the middle of a
    prefill). forbidden: ids that must not be sampled (stop ids before min_tokens).
    context: the tokens [0, end) where penalties count them, else empty; the first ``prompt`` of them are the prompt's.
    """

    request: RequestId
    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    sampling: Sampling | None
    forbidden: frozenset[int] = frozenset()
    context: Sequence[int] = ()
    prompt: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(slots=True, unsafe_hash=True)  # as slices are
class Fill:
    """A device block that is complete once this step has run, and the name its content then has.

    The step writes its last token's KV; or, in a prompt that is handed over, another sequence wrote it
    meanwhile, and each of its layers is complete before this step's is.
    short: the unfilled last block of a prompt that is handed over; never cached on the device.
    """

    request: RequestId
    name: BlockName
    block: int
    short: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """One step; fills tell what is complete after it."""

    slices: tuple[Slice, ...]
    fills: tuple[Fill, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens computed in this step."""
        return sum(len(piece.tokens) for piece in self.slices)
