"""The kernels that run whole layers in C, by ctypes; ``load_layers`` is None where they can't run.

They are compiled once for each set of instructions, best first, and chosen by what the processor has. Optional:
setup builds those that the C compiler knows, and a processor without any of them takes the slower ways.
Structures mirror layers.h; pointers only, so who makes them keeps what they point to alive.
"""

import ctypes
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from engine.llama.config import ModelConfig

VERSION = 3
"""Of layers.h's structures."""

_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "fma"})
INSTRUCTIONS = {
    "amx": _AVX512 | {"avx512_bf16", "amx_tile", "amx_bf16"},
    "avx512_bf16": _AVX512 | {"avx512_bf16"},
    "avx512": _AVX512,
}
"""What each library is compiled for, as /proc/cpuinfo calls it; best first."""

KEYS_PER_STEP, MAX_HEAD_DIM, MAX_GROUP = 32, 256, 32
"""attention.c's: a step's keys lie in one block; sums and rows of one unit of work."""

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float

log = logging.getLogger(__name__)


class LayerPointers(ctypes.Structure):
    """layers.h's Layer."""

    _fields_ = [
        (name, _POINTER)
        for name in (
            *("input_norm", "post_norm", "query_norm", "key_norm", "qkv_bias", "output_bias"),
            *("qkv", "output", "gate_up", "down"),
        )
    ]


class ModelPointers(ctypes.Structure):
    """layers.h's Model."""

    _fields_ = [
        *((name, _INT) for name in ("hidden", "inner", "heads", "kv_heads", "head_dim", "block_tokens", "blocks")),
        *((name, _FLOAT) for name in ("epsilon", "scale")),
        *((name, _POINTER) for name in ("cosines", "sines", "layers", "pages")),
    ]


class SpanPointers(ctypes.Structure):
    """layers.h's Span."""

    _fields_ = [*((name, _INT) for name in ("row", "count", "start")), ("blocks", _POINTER)]


class StepPointers(ctypes.Structure):
    """layers.h's Step."""

    _fields_ = [
        *((name, _INT) for name in ("rows", "spans_count", "threads")),
        *(
            (name, _POINTER)
            for name in ("positions", "targets", "spans", "x", "normed", "qkv", "attended", "inner", "scratch")
        ),
    ]


_SIGNATURES: dict[str, tuple[list[Any], Any]] = {  # Any: ctypes has no common type of its types
    "layers_scratch_bytes": ([_POINTER, _POINTER], _INT),
    "layers_run": ([_POINTER, _POINTER, _INT, _INT], None),
    "layers_head": ([_POINTER] * 5 + [_INT] * 3 + [_FLOAT, _INT], None),
    "layers_product": ([_POINTER] * 3 + [_INT] * 4, None),
}


class Layers:
    """The functions of layers.c, compiled for ``instructions``; they keep no state."""

    def __init__(self, library: ctypes.CDLL, instructions: str) -> None:
        self.instructions = instructions
        for name, (arguments, result) in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
        self.scratch_bytes = library.layers_scratch_bytes
        self.run = library.layers_run
        self.head = library.layers_head
        self.product = library.layers_product


def load_layers(
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    block_tokens: int,
    instructions: Sequence[str] = tuple(INSTRUCTIONS),
) -> Layers | None:
    """The first of these that was built, that the processor has, if the model's sizes fill whole tiles."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not fits(config, block_tokens):
        return None
    return next((found for name in instructions if (found := _library(name)) is not None), None)


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
def _library(name: str) -> Layers | None:
    if INSTRUCTIONS[name] - processor_flags():
        return None
    built = sorted(Path(__file__).parent.glob(f"{name}.*so"))
    if not built:
        log.warning("the kernels for %s were not built (run setup again?); slower ways are taken", name)
        return None
    library = ctypes.CDLL(str(built[0]))
    if int(library.layers_version()) != VERSION:
        log.warning("the kernels for %s are of another version and are not used: run setup again", name)
        return None
    if int(library.layers_permit()) != 0:
        log.warning("the kernel does not permit %s to this process; slower ways are taken", name)
        return None
    return Layers(library, name)


def processor_flags() -> frozenset[str]:
    """Empty where there is no /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split())
