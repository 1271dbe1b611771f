"""Attention over pages: what one step needs to know of its slices, and the arithmetic in plain torch.

Products with a float softmax; the query heads that share a key head are folded into rows, so keys
and values are read once (on a CPU in bf16 this beats ``scaled_dot_product_attention`` three to ten
times). A prompt is computed in tiles of QUERY_TILE queries, each against its own prefix; tiles start
where blocks do, so how a prompt was cut into chunks changes no product's shape.

    qkv    # [tokens, heads + 2 * kv_heads, head_dim], not yet rotated
    folded # [kv_heads, tokens, group, head_dim], queries rotated and scaled
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch

from engine.llama.config import ModelConfig
from engine.llama.pages import Pages
from engine.llama.rope import Tables, rotate, tables
from scheduler.batch import Slice

QUERY_TILE = 64
"""Queries per product: the triangle that is computed in vain is 64 / (2 * prefix) of it; smaller tiles starve AMX."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where one slice's queries lie in the batch, and its keys in the pages.

    row: first of ``count`` rows. start: position of the first query. blocks: of the sequence, up to the
    last query. run: first token of the pages where those lie in a row, else None.
    """

    row: int
    count: int
    start: int
    blocks: Sequence[int]
    run: int | None

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Plan:
    """One step's attention. positions, targets  # [tokens]: each token's place in its sequence, and in the pages."""

    spans: tuple[Span, ...]
    positions: torch.Tensor
    targets: torch.Tensor

    @property
    def ones(self) -> list[Span]:
        """Decode slices, and chunks of a single token."""
        return [span for span in self.spans if span.count == 1]

    @property
    def chunks(self) -> list[Span]:
        return [span for span in self.spans if span.count > 1]


def plan(slices: Sequence[Slice], block_tokens: int, device: torch.device) -> Plan:
    spans: list[Span] = []
    positions: list[int] = []
    targets: list[int] = []
    for piece in slices:
        used = piece.blocks[: -(-piece.end // block_tokens)]
        assert piece.end <= len(used) * block_tokens, f"{piece.request} has too few blocks"  # C would not notice
        run = used[0] * block_tokens if all(after == block + 1 for block, after in pairwise(used)) else None
        spans.append(Span(len(targets), len(piece.tokens), piece.start, used, run))
        reach = range(piece.start, piece.end)
        positions.extend(reach)
        if run is not None:
            targets.extend(range(run + piece.start, run + piece.end))
        else:
            targets.extend(used[place // block_tokens] * block_tokens + place % block_tokens for place in reach)
    return Plan(tuple(spans), torch.tensor(positions, device=device), torch.tensor(targets, device=device))


class Attention(Protocol):
    """Writes the step's keys and values into the pages of ``layer``, and attends."""

    def __call__(self, layer: int, todo: Plan, qkv: torch.Tensor) -> torch.Tensor:
        """Returns [tokens, heads * head_dim]. ``qkv`` may be written to."""
        ...


class TorchAttention:
    """Any device and dtype."""

    def __init__(self, config: ModelConfig, pages: Pages, max_positions: int) -> None:
        tensor = pages.tensor
        self._pages, self._config, self._dtype = pages, config, tensor.dtype
        self._block_tokens = pages.layout.block_tokens
        self._scale = config.head_dim**-0.5
        self._rope: Tables = tables(config.rope, config.head_dim, max_positions, tensor.dtype, tensor.device)
        self._mask = torch.full((QUERY_TILE, QUERY_TILE), float("-inf"), device=tensor.device).triu(1)

    def __call__(self, layer: int, todo: Plan, qkv: torch.Tensor) -> torch.Tensor:
        config = self._config
        tokens, heads, both = len(qkv), config.heads, config.heads + config.kv_heads
        cos, sin = (table[todo.positions] for table in self._rope)
        query_key = rotate(qkv[:, :both], cos, sin)
        keys, values = self._pages.keys[layer], self._pages.values[layer]
        keys.index_copy_(1, todo.targets, query_key[:, heads:].transpose(0, 1))
        values.index_copy_(1, todo.targets, qkv[:, both:].transpose(0, 1))
        query = query_key[:, :heads] * self._scale
        folded = query.view(tokens, config.kv_heads, config.group, config.head_dim).transpose(0, 1)
        out = torch.empty(
            (tokens, config.kv_heads, config.group, config.head_dim), dtype=self._dtype, device=qkv.device
        )
        for span in todo.spans:
            k, v = self._prefix(keys, span), self._prefix(values, span)
            if span.count == 1:
                out[span.row] = self._one(folded[:, span.row], k, v)
            else:
                self._many(span, folded, k, v, out)
        return out.view(tokens, heads * config.head_dim)

    def _prefix(self, flat: torch.Tensor, span: Span) -> torch.Tensor:
        """flat  # [kv_heads, page tokens, head_dim] -> [kv_heads, span.end, head_dim], a view if pages lie in a row."""
        if span.run is not None:
            return flat[:, span.run : span.run + span.end]
        return gather(flat, span, self._block_tokens)

    def _one(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """q  # [kv_heads, group, head_dim]; k, v  # [kv_heads, tokens, head_dim]."""
        scores = torch.bmm(q, k.transpose(1, 2))
        return torch.bmm(torch.softmax(scores, -1, dtype=torch.float32).to(self._dtype), v)

    def _many(self, span: Span, folded: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor) -> None:
        kv_heads, _, group, head_dim = folded.shape
        for row, count, position in query_tiles(span):
            end = position + count
            q = folded[:, row : row + count].reshape(kv_heads, count * group, head_dim)
            scores = torch.bmm(q, k[:, :end].transpose(1, 2)).float().view(kv_heads, count, group, end)
            scores[..., position:] += self._mask[:count, None, :count]
            weights = torch.softmax(scores, -1).to(self._dtype).view(kv_heads, count * group, end)
            tile = torch.bmm(weights, v[:, :end]).view(kv_heads, count, group, head_dim)
            out[row : row + count] = tile.transpose(0, 1)


def query_tiles(span: Span) -> list[tuple[int, int, int]]:
    """(row in the batch, queries, position of the first) of each tile; tiles end at multiples of QUERY_TILE."""
    tiles = []
    first = 0
    while first < span.count:
        position = span.start + first
        count = min(QUERY_TILE - position % QUERY_TILE, span.count - first)
        tiles.append((span.row + first, count, position))
        first += count
    return tiles


def gather(flat: torch.Tensor, span: Span, block_tokens: int) -> torch.Tensor:
    """Whole blocks, which is far quicker than rows: flat  # [kv_heads, page tokens, head_dim] -> [.., span.end, ..]."""
    paged = flat.view(flat.shape[0], -1, block_tokens, flat.shape[-1])
    blocks = torch.tensor(span.blocks, device=flat.device)
    return paged.index_select(1, blocks).flatten(1, 2)[:, : span.end]
