"""Attention over pages: what the slices of one batch need to know, once per step, and the arithmetic per layer.

Plain matrix products with a float softmax; the query heads that share a key head are folded into
rows, so keys and values are read once and never copied (on a CPU in bf16 this beats
``scaled_dot_product_attention`` three to ten times). A prompt is computed in tiles of QUERY_TILE
queries, each against its own prefix; tiles start where blocks do, so how a prompt was cut into
chunks changes no product's shape, and no bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from engine.llama.pages import Pages
from scheduler.batch import Slice

QUERY_TILE = 64
"""Queries per product: the triangle that is computed in vain is 64 / (2 * prefix) of it; smaller tiles starve AMX."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where one slice's queries lie in the batch, and its keys in the pages.

    row: first of ``count`` rows. start: position of the first query. run: first token of the
    pages where they lie in a row, else None, and ``blocks`` [blocks] says which to gather.
    """

    row: int
    count: int
    start: int
    run: int | None
    blocks: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Plan:
    """One step's attention. targets  # [tokens] where each token's KV goes, counted in tokens of the pages."""

    spans: tuple[Span, ...]
    targets: torch.Tensor


def plan(slices: Sequence[Slice], block_tokens: int, device: torch.device) -> Plan:
    spans: list[Span] = []
    targets: list[int] = []
    for piece in slices:
        used = piece.blocks[: -(-piece.end // block_tokens)]
        in_a_row = all(after == block + 1 for block, after in pairwise(used))
        gathered = None if in_a_row else torch.tensor(used, device=device)
        run = used[0] * block_tokens if in_a_row else None
        spans.append(Span(len(targets), len(piece.tokens), piece.start, run, gathered))
        if run is not None:
            targets.extend(range(run + piece.start, run + piece.end))
        else:
            targets.extend(
                used[position // block_tokens] * block_tokens + position % block_tokens
                for position in range(piece.start, piece.end)
            )
    return Plan(tuple(spans), torch.tensor(targets, device=device))


class Attention:
    """Reads and writes ``pages``; group: query heads per key head."""

    def __init__(self, pages: Pages, group: int, block_tokens: int) -> None:
        self._pages, self._group, self._block_tokens = pages, group, block_tokens
        tensor = pages.tensor
        self._dtype = tensor.dtype
        self._mask = torch.full((QUERY_TILE, QUERY_TILE), float("-inf"), device=tensor.device).triu(1)

    def __call__(
        self, layer: int, todo: Plan, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """query  # [tokens, heads, head_dim], scaled; key, value  # [tokens, kv_heads, head_dim]

        Returns [tokens, heads * head_dim].
        """
        keys, values = self._pages.keys[layer], self._pages.values[layer]
        keys.index_copy_(1, todo.targets, key.transpose(0, 1))
        values.index_copy_(1, todo.targets, value.transpose(0, 1))
        tokens, heads, head_dim = query.shape
        # [kv_heads, tokens, group, head_dim]
        folded = query.view(tokens, heads // self._group, self._group, head_dim).transpose(0, 1)
        result = torch.empty_like(query)
        out = result.view(tokens, heads // self._group, self._group, head_dim)
        for span in todo.spans:
            end = span.start + span.count
            if span.run is not None:
                k, v = keys[:, span.run : span.run + end], values[:, span.run : span.run + end]
            else:
                assert span.blocks is not None
                k, v = self._gather(keys, span.blocks, end), self._gather(values, span.blocks, end)
            if span.count == 1:
                out[span.row] = self._one(folded[:, span.row], k, v)
            else:
                self._many(span, folded, k, v, out)
        return result.view(tokens, heads * head_dim)

    def _gather(self, flat: torch.Tensor, blocks: torch.Tensor, end: int) -> torch.Tensor:
        whole = flat.view(flat.shape[0], -1, self._block_tokens, flat.shape[-1]).index_select(1, blocks)
        return whole.flatten(1, 2)[:, :end]

    def _one(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """q  # [kv_heads, group, head_dim]; k, v  # [kv_heads, tokens, head_dim]."""
        scores = torch.bmm(q, k.transpose(1, 2))
        return torch.bmm(torch.softmax(scores, -1, dtype=torch.float32).to(self._dtype), v)

    def _many(self, span: Span, folded: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor) -> None:
        """Tiles of queries, each against all keys up to its last query."""
        kv_heads, _, group, head_dim = folded.shape
        first = 0
        while first < span.count:
            position = span.start + first
            # Up to the next multiple of the tile, wherever the slice starts.
            count = min(QUERY_TILE - position % QUERY_TILE, span.count - first)
            row, end = span.row + first, position + count
            q = folded[:, row : row + count].reshape(kv_heads, count * group, head_dim)
            scores = torch.bmm(q, k[:, :end].transpose(1, 2)).float().view(kv_heads, count, group, end)
            scores[..., position:] += self._mask[:count, None, :count]
            weights = torch.softmax(scores, -1).to(self._dtype).view(kv_heads, count * group, end)
            out[row : row + count] = (
                torch.bmm(weights, v[:, :end]).view(kv_heads, count, group, head_dim).transpose(0, 1)
            )
            first += count
