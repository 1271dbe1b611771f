"""A device's KV pages, and their copies to and from slots.

    pages  # [layers, 2, kv_heads, blocks, block_tokens, head_dim]; 2: keys, values

All blocks of a head lie one behind the other, so the pages of a sequence that lie in a row
are one [kv_heads, tokens, head_dim] view, with nothing to gather. A slot holds the same
bytes as [layers, 2, kv_heads, block_tokens, head_dim]: copies move runs of
block_tokens * head_dim elements and transpose nothing.
"""

from collections.abc import Sequence

import torch

from engine.llama.config import ModelConfig
from kvstore.checksum import block_checksum
from kvstore.layout import KvLayout
from kvstore.sealing import Runs, copy_sealed
from scheduler.batch import Copy


def layout_of(config: ModelConfig, block_tokens: int, dtype: torch.dtype) -> KvLayout:
    layer_bytes = 2 * config.kv_heads * block_tokens * config.head_dim * dtype.itemsize
    axes = f"2 kv_heads={config.kv_heads} tokens={block_tokens} head_dim={config.head_dim} {str(dtype).split('.')[-1]}"
    return KvLayout(block_tokens, (layer_bytes,) * config.layers, axes)


class Pages:
    """``blocks`` device blocks. Zeroed: what is read before it is written must be finite."""

    def __init__(
        self, config: ModelConfig, blocks: int, block_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.layout = layout_of(config, block_tokens, dtype)
        self.blocks = blocks
        self._shape = (config.layers, 2, config.kv_heads, block_tokens, config.head_dim)
        self.tensor = torch.zeros(
            (config.layers, 2, config.kv_heads, blocks, block_tokens, config.head_dim), dtype=dtype, device=device
        )
        # Per layer, keys and values as [kv_heads, blocks * block_tokens, head_dim].
        self.keys = [layer[0].flatten(1, 2) for layer in self.tensor]
        self.values = [layer[1].flatten(1, 2) for layer in self.tensor]
        self._slots: torch.Tensor | None = None
        self._arena, self._slot_bytes = memoryview(b""), 0

    def attach(self, arena: memoryview, slot_bytes: int) -> None:
        """arena: shared memory that outlives the next ``detach``. On CUDA it is registered, so that copies are DMA."""
        self.detach()
        flat = torch.frombuffer(arena, dtype=torch.uint8)
        if self.tensor.is_cuda:
            _check(torch.cuda.cudart().cudaHostRegister(flat.data_ptr(), flat.numel(), 0))  # type: ignore[no-untyped-call]
        slots = flat[: flat.numel() // slot_bytes * slot_bytes].view(-1, slot_bytes)
        # [slots, layers, 2, kv_heads, block_tokens, head_dim]
        pages = slots[:, : self.layout.block_bytes].view(self.tensor.dtype)
        self._slots = pages.view(len(slots), *self._shape)
        self._arena, self._slot_bytes = arena, slot_bytes

    def detach(self) -> None:
        if self._slots is not None and self.tensor.is_cuda:
            torch.cuda.synchronize()
            _check(torch.cuda.cudart().cudaHostUnregister(self._slots.data_ptr()))  # type: ignore[no-untyped-call]
        self._slots, self._arena = None, memoryview(b"")

    def lift(self, copies: Sequence[Copy]) -> None:
        if not copies:
            return  # as in every step without a store, and so without an arena
        slots = self._attached()
        for copy in copies:
            self.tensor[:, :, :, copy.block].copy_(slots[copy.slot], non_blocking=True)
        self._settle()

    def lower(self, copies: Sequence[Copy]) -> tuple[int, ...]:
        """Whole blocks; the checksum of each."""
        slots = self._attached()
        if not self.tensor.is_cuda:
            return tuple(copy_sealed(self._runs(copy.block), self._slot(copy.slot)) for copy in copies)
        for copy in copies:
            slots[copy.slot].copy_(self.tensor[:, :, :, copy.block], non_blocking=True)
        self._settle()
        return tuple(block_checksum(self._slot(copy.slot)) for copy in copies)

    def lower_layer(self, copies: Sequence[Copy], layer: int) -> None:
        if not copies:
            return  # as in every step without a store, and so without an arena
        slots = self._attached()
        for copy in copies:
            slots[copy.slot, layer].copy_(self.tensor[layer, :, :, copy.block], non_blocking=True)
        self._settle()

    def _runs(self, block: int) -> Runs:
        """A block's heads of all layers, in the order that a slot has them."""
        first = self.tensor[0, 0, 0, block]
        run_bytes = first.nbytes
        return Runs(first.data_ptr(), run_bytes, self.blocks * run_bytes, self.layout.block_bytes // run_bytes)

    def _slot(self, slot: int) -> memoryview:
        start = slot * self._slot_bytes
        return self._arena[start : start + self.layout.block_bytes]

    def _attached(self) -> torch.Tensor:
        assert self._slots is not None, "no arena is attached"
        return self._slots

    def _settle(self) -> None:
        if self.tensor.is_cuda:
            torch.cuda.synchronize()


def _check(status: object) -> None:
    if int(status) != 0:  # type: ignore[call-overload]
        raise RuntimeError(f"CUDA can't register the arena: error {status}")
