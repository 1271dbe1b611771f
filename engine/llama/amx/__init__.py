"""The kernels that run whole layers on AMX tiles, by ctypes; ``load_amx`` is None where they can't run.

Optional: setup builds them where there is a C compiler that knows AMX, and a processor without it
takes the slower ways. Structures mirror amx.h; pointers only, so who makes them keeps what they
point to alive.
"""

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any

import torch

from engine.llama.config import ModelConfig

VERSION = 2
"""Of amx.h's structures."""

FLAGS = frozenset({"amx_tile", "amx_bf16", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"})
"""What the kernels are compiled for, as /proc/cpuinfo calls it."""

KEYS_PER_STEP, MAX_HEAD_DIM, MAX_GROUP = 32, 256, 32
"""attention.c's: a step's keys lie in one block; sums and rows of one unit of work."""

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float

log = logging.getLogger(__name__)


class LayerPointers(ctypes.Structure):
    """amx.h's Layer."""

    _fields_ = [
        (name, _POINTER)
        for name in (
            *("input_norm", "post_norm", "query_norm", "key_norm", "qkv_bias", "output_bias"),
            *("qkv", "output", "gate_up", "down"),
        )
    ]


class ModelPointers(ctypes.Structure):
    """amx.h's Model."""

    _fields_ = [
        *((name, _INT) for name in ("hidden", "inner", "heads", "kv_heads", "head_dim", "block_tokens", "blocks")),
        *((name, _FLOAT) for name in ("epsilon", "scale")),
        *((name, _POINTER) for name in ("cosines", "sines", "layers", "pages")),
    ]


class SpanPointers(ctypes.Structure):
    """amx.h's Span."""

    _fields_ = [*((name, _INT) for name in ("row", "count", "start")), ("blocks", _POINTER)]


class StepPointers(ctypes.Structure):
    """amx.h's Step."""

    _fields_ = [
        *((name, _INT) for name in ("rows", "spans_count", "threads")),
        *(
            (name, _POINTER)
            for name in ("positions", "targets", "spans", "x", "normed", "qkv", "attended", "inner", "scratch")
        ),
    ]


_SIGNATURES: dict[str, tuple[list[Any], Any]] = {  # Any: ctypes has no common type of its types
    "amx_scratch_bytes": ([_POINTER, _POINTER], _INT),
    "amx_layers": ([_POINTER, _POINTER, _INT, _INT], None),
    "amx_head": ([_POINTER] * 5 + [_INT] * 3 + [_FLOAT, _INT], None),
    "amx_product": ([_POINTER] * 3 + [_INT] * 4, None),
}


class Amx:
    """The functions of layers.c. One per process is enough; they keep no state."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, (arguments, result) in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
        self.scratch_bytes = library.amx_scratch_bytes
        self.layers = library.amx_layers
        self.head = library.amx_head
        self.product = library.amx_product


def load_amx(config: ModelConfig, dtype: torch.dtype, device: torch.device, block_tokens: int) -> Amx | None:
    """The kernels, where they were built, the processor has AMX, and the model's sizes fill whole tiles."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not fits(config, block_tokens):
        return None
    return _library()


def fits(config: ModelConfig, block_tokens: int) -> bool:
    """Whether sizes are what the kernels take; nearly every model's are."""
    whole = (config.hidden_size, config.intermediate_size, config.head_dim)
    return (
        all(size % 32 == 0 for size in whole)
        and config.vocab_size % 16 == 0
        and config.head_dim <= MAX_HEAD_DIM
        and config.group <= MAX_GROUP
        and block_tokens % KEYS_PER_STEP == 0
    )


@cache
def _library() -> Amx | None:
    built = sorted(Path(__file__).parent.glob("kernels.*so"))
    if not built or FLAGS - _processor_flags():
        return None
    library = ctypes.CDLL(str(built[0]))
    if int(library.amx_version()) != VERSION:
        log.warning("the AMX kernels are of another version and are not used: run setup again")
        return None
    if int(library.amx_permit()) != 0:
        log.warning("the kernel does not permit AMX to this process; slower ways are taken")
        return None
    return Amx(library)


def _processor_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split())
