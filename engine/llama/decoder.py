"""The decoder itself, as functions of tensors: embedding, layers, head.

T tokens of the batch; H query heads, KH key/value heads, D head size, E model size, I MLP size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.llama.attention import Attention, Plan
from engine.llama.config import ModelConfig
from engine.llama.linear import Linear, make_linear
from engine.llama.native import Kernels
from engine.llama.norm import make_norm, make_residual
from engine.llama.weights import Weights


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights."""

    input_norm: torch.Tensor
    qkv: Linear
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    output: Linear
    post_norm: torch.Tensor
    gate: Linear
    up: Linear
    down: Linear


class Runner(Protocol):
    """A model over its pages."""

    def hidden(self, ids: torch.Tensor, todo: Plan, on_layer: Callable[[int], None] | None) -> torch.Tensor:
        """ids  # [T] -> [T, E], before the last norm; every layer's KV is in its pages then."""
        ...

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """x  # [rows, E] -> [rows, vocab]."""
        ...


class Decoder:
    """Weights on a device."""

    def __init__(self, config: ModelConfig, weights: Weights, kernels: Kernels | None) -> None:
        self.config = config
        size, vocab = config.hidden_size, config.vocab_size
        self.embedding = weights.get("model.embed_tokens.weight", vocab, size)
        self.layers = [_layer(config, weights, index) for index in range(config.layers)]
        self.norm = weights.get("model.norm.weight", size)
        self.head = make_linear(weights.head(self.embedding))
        self._norm = make_norm(config.rms_norm_eps, kernels)
        self._residual = make_residual(config.rms_norm_eps, kernels)

    def hidden(
        self, ids: torch.Tensor, attention: Attention, todo: Plan, on_layer: Callable[[int], None] | None
    ) -> torch.Tensor:
        """ids  # [T] -> [T, E], before the last norm; every layer's KV is in its pages then."""
        config, norm, residual = self.config, self._norm, self._residual
        x, more = self.embedding[ids].float(), None
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(residual(x, more, layer.input_norm)).view(len(ids), -1, config.head_dim)
            if layer.query_norm is not None and layer.key_norm is not None:
                heads, both = config.heads, config.heads + config.kv_heads
                qkv[:, :heads] = norm(qkv[:, :heads], layer.query_norm)
                qkv[:, heads:both] = norm(qkv[:, heads:both], layer.key_norm)
            attended = attention(index, todo, qkv)
            if on_layer is not None:
                on_layer(index)
            inner = residual(x, layer.output(attended), layer.post_norm)
            more = layer.down(layer.up.times(inner, layer.gate.silu(inner)))
        return x if more is None else x + more

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """x  # [rows, E] -> [rows, vocab]."""
        return self.head(self._residual(x, None, self.norm))


class TorchRunner:
    """A ``Runner`` of torch's products, with one of the ways to attend."""

    def __init__(self, decoder: Decoder, attention: Attention) -> None:
        self.decoder, self._attention = decoder, attention

    def hidden(self, ids: torch.Tensor, todo: Plan, on_layer: Callable[[int], None] | None) -> torch.Tensor:
        return self.decoder.hidden(ids, self._attention, todo, on_layer)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder.logits(x)


def _layer(config: ModelConfig, weights: Weights, index: int) -> Layer:
    size, inner, head_dim = config.hidden_size, config.intermediate_size, config.head_dim
    prefix = f"model.layers.{index}."
    rows = {"q": config.heads * head_dim, "k": config.kv_heads * head_dim, "v": config.kv_heads * head_dim}

    def bias(name: str, size: int, wanted: bool) -> torch.Tensor | None:
        return weights.get(f"{prefix}self_attn.{name}_proj.bias", size) if wanted else None

    projections = [weights.get(f"{prefix}self_attn.{name}_proj.weight", count, size) for name, count in rows.items()]
    biases = [each for name, count in rows.items() if (each := bias(name, count, config.qkv_bias)) is not None]
    norms = [
        weights.get(f"{prefix}self_attn.{name}_norm.weight", head_dim) if config.qk_norm else None for name in "qk"
    ]
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
