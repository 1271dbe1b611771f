"""Root-mean-square norms (Zhang and Sennrich, arXiv 1910.07467) of heads and of the residual stream; C where built."""

from typing import Protocol

import torch
import torch.nn.functional as F

from engine.llama.native import Kernels


class Norm(Protocol):
    """x  # [.., size]; weight  # [size] -> like x."""

    def __call__(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor: ...


class Residual(Protocol):
    """x  # [T, E] float32, the residual stream; more  # [T, E], added to it first; weight  # [E] -> like weight."""

    def __call__(self, x: torch.Tensor, more: torch.Tensor | None, weight: torch.Tensor) -> torch.Tensor: ...


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


def make_residual(eps: float, kernels: Kernels | None) -> Residual:
    """Sum and norm in one pass. The stream is float32: it is a sum over all layers, and would be rounded as often."""

    def plain(x: torch.Tensor, more: torch.Tensor | None, weight: torch.Tensor) -> torch.Tensor:
        if more is not None:
            x += more
        return (F.rms_norm(x, weight.shape, None, eps) * weight).to(weight.dtype)

    if kernels is None:
        return plain
    native = kernels.add_and_norm

    def in_c(x: torch.Tensor, more: torch.Tensor | None, weight: torch.Tensor) -> torch.Tensor:
        assert x.is_contiguous(), "rows lie one behind the other"
        assert more is None or more.is_contiguous(), "rows lie one behind the other"
        out = torch.empty_like(x, dtype=weight.dtype)
        added = None if more is None else more.data_ptr()
        native(x.data_ptr(), added, weight.data_ptr(), out.data_ptr(), *x.shape, eps)
        return out

    return in_c
