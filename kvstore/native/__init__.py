"""The C kernel that copies and hashes in one pass, by ctypes; ``load_copied`` is None where it can't run.

It is optional: setup builds it where there is a C compiler, and the processor says at run time whether
it has the instructions. Pointers only: who calls keeps the memory alive and sees to what copy.c asks for.
"""

import ctypes
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

STRIPE_BYTES = 64
"""What a run must be made of."""

TARGET_ALIGNMENT = 32

LEAST_BYTES = 256
"""Below, XXH3 is another algorithm."""

Copied = Callable[[int, int, int, int, int], int]
"""(target, source, run_bytes, stride_bytes, runs) -> xxh3-64 of what was copied; the interpreter is free meanwhile."""


@cache
def load_copied() -> Copied | None:
    """copy.c's ``copied``, where it was built and this processor can run it."""
    built = sorted(Path(__file__).parent.glob("copy.*so"))
    if not built:
        log.warning("the C kernel that copies blocks was not built (no C compiler at set-up?); copying is slower")
        return None
    library = ctypes.CDLL(str(built[0]))
    library.can_copy.restype = ctypes.c_int32
    if not library.can_copy():
        return None
    function = library.copied
    function.argtypes, function.restype = [ctypes.c_void_p] * 2 + [ctypes.c_uint64] * 3, ctypes.c_uint64
    copied: Copied = function
    return copied
