"""Root-mean-square norms (Zhang and Sennrich, arXiv 1910.07467), in C where that was built."""

from typing import Protocol

import torch
import torch.nn.functional as F

from engine.llama.native import Kernels


class Norm(Protocol):
    """x  # [.., size]; weight  # [size] -> like x."""

    def __call__(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor: ...


def make_norm(eps: float, kernels: Kernels | None) -> Norm:
    """With kernels, x has rows that lie one behind the other within each of its first axis's items."""

    def plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, weight.shape, weight, eps)

    if kernels is None:
        return plain
    native = kernels.rms_norm

    def in_c(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        outer, size = x.shape[0], x.shape[-1]
        inner = x.numel() // (outer * size)
        native(x.data_ptr(), weight.data_ptr(), out.data_ptr(), outer, inner, x.stride(0), inner * size, size, eps)
        return out

    return in_c
