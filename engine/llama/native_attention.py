"""The same attention with C kernels where torch would copy: rotation, causal softmax, decode over pages.

The products of a prefill stay oneDNN's, one key head at a time: a head's keys that lie in a row are one
matrix, whereas a batched product would first copy them all together. Decoding reads every page where it lies.
"""

import torch

from engine.llama.attention import Plan, Span, gather, query_tiles
from engine.llama.config import ModelConfig
from engine.llama.native import Kernels
from engine.llama.pages import Pages
from engine.llama.rope import tables


class NativeAttention:
    """An ``Attention`` for the CPU; one step at a time, since it keeps scratch memory."""

    def __init__(self, config: ModelConfig, pages: Pages, max_positions: int, kernels: Kernels) -> None:
        self._pages, self._config, self._kernels = pages, config, kernels
        self._dtype = pages.tensor.dtype
        self._block_tokens = pages.layout.block_tokens
        self._page_tokens = pages.blocks * pages.layout.block_tokens
        self._cos, self._sin = tables(config.rope, config.head_dim, max_positions, torch.float32, torch.device("cpu"))
        longest = -(-max_positions // self._block_tokens) * self._block_tokens
        self._longest = longest
        self._scratch = torch.empty(4 * longest)
        self._decoding: _Decoding | None = None

    def __call__(self, layer: int, todo: Plan, qkv: torch.Tensor) -> torch.Tensor:
        config, tokens = self._config, len(qkv)
        keys, values = self._pages.keys[layer], self._pages.values[layer]
        folded = torch.empty((config.kv_heads, tokens, config.group, config.head_dim), dtype=self._dtype)
        self._kernels.rotate_and_write(
            qkv.data_ptr(),
            self._cos.data_ptr(),
            self._sin.data_ptr(),
            todo.positions.data_ptr(),
            todo.targets.data_ptr(),
            folded.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            tokens,
            config.kv_heads,
            config.group,
            config.head_dim,
            self._page_tokens,
            config.head_dim**-0.5,
        )
        out = torch.empty((tokens, config.kv_heads, config.group, config.head_dim), dtype=self._dtype)
        for span in todo.chunks:
            self._prefill(span, folded, keys, values, out)
        if self._decoding is None or self._decoding.plan is not todo:
            self._decoding = _Decoding(todo)
        self._decode(self._decoding, folded, keys, values, out)
        return out.view(tokens, config.heads * config.head_dim)

    def _prefill(
        self, span: Span, folded: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, out: torch.Tensor
    ) -> None:
        group, head_dim = self._config.group, self._config.head_dim
        if span.run is None:
            keys, values = (gather(flat, span, self._block_tokens) for flat in (keys, values))
        first = span.run or 0
        for row, count, position in query_tiles(span):
            end = position + count
            for head in range(self._config.kv_heads):
                query = folded[head, row : row + count].view(count * group, head_dim)
                weights = torch.mm(query, keys[head, first : first + end].t())
                self._kernels.causal_softmax(
                    weights.data_ptr(), count * group, end, group, position + 1, self._scratch.data_ptr()
                )
                tile = torch.mm(weights, values[head, first : first + end])
                out[row : row + count, head] = tile.view(count, group, head_dim)

    def _decode(
        self, todo: "_Decoding", folded: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, out: torch.Tensor
    ) -> None:
        if not todo.count:
            return
        config = self._config
        self._kernels.attend(
            folded.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            todo.rows.data_ptr(),
            todo.lengths.data_ptr(),
            todo.table.data_ptr(),
            todo.table.shape[1],
            todo.count,
            folded.shape[1],
            config.kv_heads,
            config.group,
            config.head_dim,
            self._page_tokens,
            self._block_tokens,
            self._scratch.data_ptr(),
            self._longest,
            out.data_ptr(),
        )


class _Decoding:
    """The decode slices of one plan, as the kernel wants them; made once a step."""

    def __init__(self, plan: Plan) -> None:
        ones = plan.ones
        self.plan, self.count = plan, len(ones)
        self.rows = torch.tensor([span.row for span in ones], dtype=torch.int64)
        self.lengths = torch.tensor([span.end for span in ones], dtype=torch.int64)
        width = max((len(span.blocks) for span in ones), default=0)
        self.table = torch.tensor(
            [[*span.blocks, *[0] * (width - len(span.blocks))] for span in ones], dtype=torch.int64
        )
