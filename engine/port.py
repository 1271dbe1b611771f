"""The port of every engine: run one batch over paged KV, and copy pages to and from slots.

An engine owns device memory as numbered blocks (pages). It decides nothing: which
sequence runs, which block holds what, and what is copied where is told to it. It
knows token ids, never text; and neither sockets nor the store behind a slot.
All methods are called from one thread, the worker's model thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kvstore.layout import KvLayout
from scheduler.batch import Batch, Copy
from scheduler.vocabulary import Profile

OnLayer = Callable[[int], None]
"""Called with each layer's number, 0 first, once that layer's KV of the whole batch is in its device blocks."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """tokens: one entry per slice of the batch, in order; None where the slice asked for no token."""

    tokens: tuple[int | None, ...]


class EngineError(Exception):
    """The engine cannot be made or cannot run; the message is a sentence for the operator."""


class UnsupportedModel(EngineError):
    """This engine does not run that model; the message names the model and what it has that is not supported."""


class Engine(Protocol):
    """A model on a device.

    layout: of one block. blocks_total: device blocks, numbered from 0. max_model_len: the
    longest sequence in tokens (prompt and output). weights: hex digest of weights and config.
    dtype: e.g. ``"bfloat16"``. vocab_size: token ids are in [0, vocab_size).
    """

    @property
    def layout(self) -> KvLayout: ...
    @property
    def blocks_total(self) -> int: ...
    @property
    def max_model_len(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def weights(self) -> str: ...
    @property
    def dtype(self) -> str: ...

    def warm_up(self) -> Profile:
        """Run what a first request would otherwise pay for, measure, and return what work costs here."""
        ...

    def run(self, batch: Batch, on_layer: OnLayer | None = None) -> StepResult:
        """Compute every slice of the batch: write its KV into its blocks, sample where asked."""
        ...

    def attach(self, arena: memoryview, slot_bytes: int) -> None:
        """Copy to and from this arena from now on (slot i at ``i * slot_bytes``); replaces an earlier one."""
        ...

    def detach(self) -> None:
        """Drop every reference to the attached arena, so that its mapping can be closed."""
        ...

    def lift(self, copies: Sequence[Copy]) -> None:
        """Slots to device blocks, whole blocks."""
        ...

    def lower(self, copies: Sequence[Copy]) -> tuple[int, ...]:
        """Device blocks to slots, whole blocks; the checksum of each (``kvstore.checksum``)."""
        ...

    def lower_layer(self, copies: Sequence[Copy], layer: int) -> None:
        """Device blocks to slots, this layer's slice of each."""
        ...
