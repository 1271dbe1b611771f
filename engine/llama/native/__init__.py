"""The C kernels beside oneDNN's products, by ctypes; ``load_kernels`` is None where they were not built.

They are optional: setup builds them where there is a C compiler, and without them the same
arithmetic is done by torch, slower. Pointers only: who calls keeps the tensors alive, contiguous
where kernels.h says so, and of the kernels' dtype.
"""

import ctypes
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

DTYPES = {torch.bfloat16: "bfloat16", torch.float32: "float32"}
MAX_HEAD_DIM = 256

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_SIGNATURES: dict[str, list[Any]] = {  # Any: ctypes has no common type of its types
    "add_and_norm": [_POINTER] * 4 + [_INT] * 2 + [_FLOAT],
    "rms_norm": [_POINTER] * 3 + [_INT] * 5 + [_FLOAT],
    "rotate_and_write": [_POINTER] * 8 + [_INT] * 5 + [_FLOAT],
    "causal_softmax": [_POINTER] + [_INT] * 4 + [_POINTER],
    "attend": [_POINTER] * 6 + [_INT] * 8 + [_POINTER, _INT, _POINTER],
}

log = logging.getLogger(__name__)

Kernel = Callable[..., None]


class Kernels:
    """The functions of kernels.h for one dtype, under their own names."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.add_and_norm = self._function(library, "add_and_norm", dtype)
        self.rms_norm = self._function(library, "rms_norm", dtype)
        self.rotate_and_write = self._function(library, "rotate_and_write", dtype)
        self.causal_softmax = self._function(library, "causal_softmax", dtype)
        self.attend = self._function(library, "attend", dtype)

    @staticmethod
    def _function(library: ctypes.CDLL, name: str, dtype: torch.dtype) -> Kernel:
        function = library[f"{name}_{DTYPES[dtype]}"]
        function.argtypes, function.restype = _SIGNATURES[name], None
        return function


def load_kernels(dtype: torch.dtype, device: torch.device, head_dim: int) -> Kernels | None:
    """The kernels, where they were built and can do this."""
    if device.type != "cpu" or dtype not in DTYPES or head_dim > MAX_HEAD_DIM or head_dim % 2:
        return None
    built = sorted(Path(__file__).parent.glob("kernels.*so"))
    if not built:
        log.warning("the C kernels were not built (no C compiler at set-up?); torch alone is slower")
        return None
    return Kernels(ctypes.CDLL(str(built[0])), dtype)
