"""The decoder itself, as functions of tensors: embedding, layers, head.

T tokens of the batch; H query heads, KH key/value heads, D head size, E model size, I MLP size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from engine.llama.attention import Attention, Plan
from engine.llama.config import ModelConfig
from engine.llama.linear import Linear, make_linear
from engine.llama.rope import rotate, tables
from engine.llama.weights import Weights


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights. The query part of qkv (or of its norm) carries the softmax scale."""

    input_norm: torch.Tensor
    qkv: Linear
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    output: Linear
    post_norm: torch.Tensor
    gate: Linear
    up: Linear
    down: Linear


class Decoder:
    """Weights on a device; ``max_positions`` bounds what the rotary tables cover."""

    def __init__(
        self, config: ModelConfig, weights: Weights, *, max_positions: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.config = config
        size, vocab = config.hidden_size, config.vocab_size
        self.embedding = weights.get("model.embed_tokens.weight", vocab, size)
        self.layers = [_layer(config, weights, index) for index in range(config.layers)]
        self.norm = weights.get("model.norm.weight", size)
        self.head = make_linear(self.embedding if config.tied else weights.get("lm_head.weight", vocab, size))
        scale = config.head_dim**-0.5
        # A power of two changes no rounding, so it went into the weights; another scale is applied as it is.
        self._query_scale = None if _is_power_of_two(scale) else scale
        self.cos, self.sin = tables(config.rope, config.head_dim, max_positions, dtype, device)

    def hidden(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        attention: Attention,
        todo: Plan,
        on_layer: Callable[[int], None] | None,
    ) -> torch.Tensor:
        """ids, positions  # [T] -> [T, E], before the last norm; every layer's KV is in its pages then."""
        config = self.config
        heads, both = config.heads, config.heads + config.kv_heads
        x = self.embedding[ids]
        cos, sin = self.cos[positions], self.sin[positions]
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(self._norm(x, layer.input_norm)).view(len(ids), both + config.kv_heads, config.head_dim)
            query_key = qkv[:, :both]
            if layer.query_norm is not None and layer.key_norm is not None:
                normed = self._norm(qkv[:, :heads], layer.query_norm), self._norm(qkv[:, heads:both], layer.key_norm)
                query_key = torch.cat(normed, 1)
            query_key = rotate(query_key, cos, sin)
            query = query_key[:, :heads]
            if self._query_scale is not None:
                query = query * self._query_scale
            attended = attention(index, todo, query, query_key[:, heads:], qkv[:, both:])
            if on_layer is not None:
                on_layer(index)
            x = layer.output.plus(attended, x)
            inner = self._norm(x, layer.post_norm)
            x = layer.down.plus(layer.up.times(inner, layer.gate.silu(inner)), x)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """x  # [rows, E] -> [rows, vocab]."""
        return self.head(self._norm(x, self.norm))

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)


def _layer(config: ModelConfig, weights: Weights, index: int) -> Layer:
    size, inner, head_dim = config.hidden_size, config.intermediate_size, config.head_dim
    prefix = f"model.layers.{index}."
    rows = {"q": config.heads * head_dim, "k": config.kv_heads * head_dim, "v": config.kv_heads * head_dim}

    def bias(name: str, size: int, wanted: bool) -> torch.Tensor | None:
        return weights.get(f"{prefix}self_attn.{name}_proj.bias", size) if wanted else None

    scale = config.head_dim**-0.5 if _is_power_of_two(config.head_dim**-0.5) else 1.0
    projections = [weights.get(f"{prefix}self_attn.{name}_proj.weight", count, size) for name, count in rows.items()]
    biases = [each for name, count in rows.items() if (each := bias(name, count, config.qkv_bias)) is not None]
    norms = [
        weights.get(f"{prefix}self_attn.{name}_norm.weight", head_dim) if config.qk_norm else None for name in "qk"
    ]
    if norms[0] is not None:
        norms[0] = norms[0] * scale
    else:
        projections[0] = projections[0] * scale
        biases[:1] = [each * scale for each in biases[:1]]
    return Layer(
        input_norm=weights.get(f"{prefix}input_layernorm.weight", size),
        qkv=make_linear(torch.cat(projections), torch.cat(biases) if biases else None),
        query_norm=norms[0],
        key_norm=norms[1],
        output=make_linear(
            weights.get(f"{prefix}self_attn.o_proj.weight", size, rows["q"]), bias("o", size, config.output_bias)
        ),
        post_norm=weights.get(f"{prefix}post_attention_layernorm.weight", size),
        gate=make_linear(weights.get(f"{prefix}mlp.gate_proj.weight", inner, size)),
        up=make_linear(weights.get(f"{prefix}mlp.up_proj.weight", inner, size)),
        down=make_linear(weights.get(f"{prefix}mlp.down_proj.weight", size, inner)),
    )


def _is_power_of_two(value: float) -> bool:
    return math.frexp(value)[0] == 0.5
