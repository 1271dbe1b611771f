"""Rotary position embeddings (Su et al., arXiv 2104.09864) as two tables, made once.

sin carries the sign of rotate_half, so a rotation is ``x * cos + roll(x, head_dim / 2) * sin``.
"""

import math

import torch

from engine.llama.config import Rope

Tables = tuple[torch.Tensor, torch.Tensor]
"""cos and signed sin, each [positions, 1, head_dim]."""


def frequencies(rope: Rope, head_dim: int) -> torch.Tensor:
    """[head_dim / 2] float32, radians per position."""
    plain = 1.0 / (rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim))
    match rope.kind:
        case "linear":
            return plain / rope.factor
        case "llama3":
            return _llama3(rope, plain)
        case _:
            return plain


def _llama3(rope: Rope, plain: torch.Tensor) -> torch.Tensor:
    """Long waves are stretched, short ones kept, those between interpolated (Llama 3.1's model card)."""
    original = rope.original_max_position_embeddings
    wavelengths = 2 * math.pi / plain
    smooth = (original / wavelengths - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    between = (1 - smooth) * plain / rope.factor + smooth * plain
    stretched = torch.where(wavelengths > original / rope.low_freq_factor, plain / rope.factor, plain)
    is_between = (wavelengths <= original / rope.low_freq_factor) & (wavelengths >= original / rope.high_freq_factor)
    return torch.where(is_between, between, stretched)


def tables(rope: Rope, head_dim: int, positions: int, dtype: torch.dtype, device: torch.device) -> Tables:
    """For positions [0, positions). Computed in float32, then rounded to ``dtype`` as Hugging Face does."""
    angles = torch.arange(positions).float()[:, None] * frequencies(rope, head_dim)
    cos = torch.cat([angles.cos(), angles.cos()], -1)[:, None]
    sin = torch.cat([-angles.sin(), angles.sin()], -1)[:, None]
    return cos.to(device, dtype), sin.to(device, dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x  # [tokens, heads, head_dim]; cos, sin  # [tokens, 1, head_dim]."""
    return (x * cos).addcmul_(torch.roll(x, x.shape[-1] // 2, -1), sin)
