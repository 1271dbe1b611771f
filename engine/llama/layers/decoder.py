"""A decoder whose layers are single calls into C kernels: the same arithmetic as ``engine.llama.decoder``.

A step's rows go through each layer in chunks that stay in the second-level cache. Every row is
computed in one order whatever else is in the batch (see attention.c and gemm.c), so cutting a prompt,
batching and paging change no bit.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from engine.llama.attention import Plan, Span
from engine.llama.config import ModelConfig
from engine.llama.layers import LayerPointers, Layers, ModelPointers, SpanPointers, StepPointers
from engine.llama.pages import Pages
from engine.llama.rope import frequencies
from engine.llama.weights import Weights

CHUNK_ROWS = 512
"""Rows that go through a layer together. 512 x 1,536 x 2 B = 1.5 MiB of the largest activation, in 2 MiB of cache."""


def pack(weight: torch.Tensor) -> torch.Tensor:
    """[outputs, inputs] bf16 as gemm.c wants it, outputs padded to a multiple of 32."""
    outputs, inputs = weight.shape
    padded = torch.zeros((-(-outputs // 32) * 32, inputs), dtype=weight.dtype)
    padded[:outputs] = weight
    return padded.view(-1, 16, inputs // 32, 16, 2).permute(0, 2, 3, 1, 4).contiguous()


def interleave(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """[inner, hidden] each -> [2 * inner, hidden], in turns of 16 rows."""
    inner, hidden = gate.shape
    return torch.stack([gate.view(-1, 16, hidden), up.view(-1, 16, hidden)], 1).view(2 * inner, hidden)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some rows of a step, and what its pointers point to."""

    pointers: StepPointers
    kept: tuple[object, ...]


class LayersDecoder:
    """Weights packed for the kernels, and memory for one step's activations: one step at a time."""

    def __init__(
        self, config: ModelConfig, weights: Weights, pages: Pages, max_positions: int, kernels: Layers
    ) -> None:
        self.config, self._kernels, self._pages = config, kernels, pages
        self.instructions = kernels.instructions
        size, vocab = config.hidden_size, config.vocab_size
        self.embedding = weights.get("model.embed_tokens.weight", vocab, size)
        self._norm = weights.get("model.norm.weight", size).float()
        self._head = pack(weights.head(self.embedding))
        self._layers = [_layer_tensors(config, weights, index) for index in range(config.layers)]
        angles = torch.arange(max_positions).float()[:, None] * frequencies(config.rope, config.head_dim)
        self._cosines, self._sines = angles.cos(), angles.sin()
        self._pointers = (LayerPointers * config.layers)(*(_pointers(layer) for layer in self._layers))
        self._model = ModelPointers(
            hidden=size,
            inner=config.intermediate_size,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            block_tokens=pages.layout.block_tokens,
            blocks=pages.blocks,
            epsilon=config.rms_norm_eps,
            scale=config.head_dim**-0.5,
            cosines=self._cosines.data_ptr(),
            sines=self._sines.data_ptr(),
            layers=ctypes.addressof(self._pointers),
            pages=pages.tensor.data_ptr(),
        )
        widths = (
            size,
            (config.heads + 2 * config.kv_heads) * config.head_dim,
            config.heads * config.head_dim,
            config.intermediate_size,
        )
        self._activations = [torch.empty((CHUNK_ROWS, width), dtype=torch.bfloat16) for width in widths]
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def hidden(self, ids: torch.Tensor, todo: Plan, on_layer: Callable[[int], None] | None) -> torch.Tensor:
        """ids  # [T] -> [T, E] float32, before the last norm; every layer's KV is in its pages then."""
        x = self.embedding[ids].float()
        chunks = [self._chunk(x, todo, row) for row in range(0, len(ids), CHUNK_ROWS)]
        if len(chunks) == 1 and on_layer is None:
            self._run(chunks[0], 0, self.config.layers)
            return x
        for index in range(self.config.layers):
            for chunk in chunks:
                self._run(chunk, index, index + 1)
            if on_layer is not None:
                on_layer(index)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """x  # [rows, E] float32 -> [rows, vocab] float32."""
        x, rows = x.contiguous(), len(x)
        normed = torch.empty_like(x, dtype=torch.bfloat16)
        result = torch.empty((rows, self.config.vocab_size), dtype=torch.float32)
        self._kernels.head(
            *(each.data_ptr() for each in (x, self._norm, self._head, normed, result)),
            *(rows, self.config.hidden_size, self.config.vocab_size),
            *(self.config.rms_norm_eps, torch.get_num_threads()),
        )
        return result

    def _run(self, chunk: _Chunk, first: int, last: int) -> None:
        self._kernels.run(ctypes.byref(self._model), ctypes.byref(chunk.pointers), first, last)

    def _chunk(self, x: torch.Tensor, todo: Plan, first: int) -> _Chunk:
        rows = min(CHUNK_ROWS, len(x) - first)
        spans = clipped(todo.spans, first, rows)
        blocks = np.fromiter(chain.from_iterable(span.blocks for span in spans), dtype=np.int32)
        table, begin = (SpanPointers * len(spans))(), blocks.ctypes.data
        for entry, span in zip(table, spans, strict=True):
            entry.row, entry.count, entry.start, entry.blocks = span.row, span.count, span.start, begin
            begin += len(span.blocks) * blocks.itemsize
        normed, qkv, attended, inner = self._activations
        pointers = StepPointers(
            rows=rows,
            spans_count=len(spans),
            threads=torch.get_num_threads(),
            positions=todo.positions[first:].data_ptr(),
            targets=todo.targets[first:].data_ptr(),
            spans=ctypes.addressof(table),
            x=x[first:].data_ptr(),
            normed=normed.data_ptr(),
            qkv=qkv.data_ptr(),
            attended=attended.data_ptr(),
            inner=inner.data_ptr(),
        )
        needed = int(self._kernels.scratch_bytes(ctypes.byref(self._model), ctypes.byref(pointers)))
        if needed > len(self._scratch):
            self._scratch = torch.empty(needed, dtype=torch.uint8)
        pointers.scratch = self._scratch.data_ptr()
        return _Chunk(pointers, (table, blocks, todo, x, self._scratch))


def clipped(spans: Sequence[Span], first: int, rows: int) -> list[Span]:
    """The parts of ``spans`` in rows [first, first + rows), counted from ``first``."""
    parts = []
    for span in spans:
        begin, end = max(span.row, first), min(span.row + span.count, first + rows)
        if begin < end:
            parts.append(Span(begin - first, end - begin, span.start + begin - span.row, span.blocks, span.run))
    return parts


def _layer_tensors(config: ModelConfig, weights: Weights, index: int) -> dict[str, torch.Tensor]:
    """By the names in layers.h. Norms and biases in float32: they are used as they are, once per row."""
    prefix, size, inner, dim = f"model.layers.{index}.", config.hidden_size, config.intermediate_size, config.head_dim
    rows = {"q": config.heads * dim, "k": config.kv_heads * dim, "v": config.kv_heads * dim}

    def get(name: str, *shape: int) -> torch.Tensor:
        return weights.get(prefix + name, *shape)

    tensors = {
        "input_norm": get("input_layernorm.weight", size).float(),
        "post_norm": get("post_attention_layernorm.weight", size).float(),
        "qkv": pack(torch.cat([get(f"self_attn.{name}_proj.weight", count, size) for name, count in rows.items()])),
        "output": pack(get("self_attn.o_proj.weight", size, rows["q"])),
        "gate_up": pack(interleave(get("mlp.gate_proj.weight", inner, size), get("mlp.up_proj.weight", inner, size))),
        "down": pack(get("mlp.down_proj.weight", size, inner)),
    }
    if config.qkv_bias:
        biases = [get(f"self_attn.{name}_proj.bias", count) for name, count in rows.items()]
        tensors["qkv_bias"] = torch.cat(biases).float()
    if config.output_bias:
        tensors["output_bias"] = get("self_attn.o_proj.bias", size).float()
    if config.qk_norm:
        tensors["query_norm"] = get("self_attn.q_norm.weight", dim).float()
        tensors["key_norm"] = get("self_attn.k_norm.weight", dim).float()
    return tensors


def _pointers(tensors: dict[str, torch.Tensor]) -> LayerPointers:
    return LayerPointers(**{name: tensor.data_ptr() for name, tensor in tensors.items()})
