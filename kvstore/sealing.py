"""Copy a block from somebody's memory into its slot, and have its checksum when that is done.

One pass over the bytes where the C kernel runs (``kvstore.native``); else portions that are hashed
while they are in the cache, which gives the same bytes and the same number. Which slot, and
whether it may be written, is known elsewhere.
"""

import ctypes
from dataclasses import dataclass

import xxhash

from kvstore.native import LEAST_BYTES, STRIPE_BYTES, TARGET_ALIGNMENT, load_copied

PORTION_BYTES = 256 * 1024
"""Copied, and hashed while it is still in the cache."""


@dataclass(frozen=True, slots=True)
class Runs:
    """A block as it lies in memory: ``count`` runs of ``run_bytes``, the first at ``address``, ``stride_bytes`` apart.

    Whoever makes it keeps that memory alive and unchanged while it is copied.
    """

    address: int
    run_bytes: int
    stride_bytes: int
    count: int

    def __post_init__(self) -> None:
        assert min(self.address, self.run_bytes, self.count) > 0, "a block has an address and bytes"

    @property
    def total_bytes(self) -> int:
        return self.run_bytes * self.count


def copy_sealed(source: Runs, slot: memoryview) -> int:
    """Copy the runs one behind the other to ``slot``, exactly as long; the xxh3-64 of all. Any thread may."""
    assert slot.nbytes == source.total_bytes, f"{source.total_bytes} bytes do not fill a slot of {slot.nbytes}"
    held = ctypes.c_char.from_buffer(slot)  # its memory stays while this does
    target = ctypes.addressof(held)
    copied = load_copied()
    if copied is not None and _fits(source, target):
        return copied(target, source.address, source.run_bytes, source.stride_bytes, source.count)
    return _in_portions(source, target, slot)


def _fits(source: Runs, target: int) -> bool:
    aligned = target % TARGET_ALIGNMENT == 0 and source.run_bytes % STRIPE_BYTES == 0
    return aligned and source.total_bytes >= LEAST_BYTES


def _in_portions(source: Runs, target: int, slot: memoryview) -> int:
    digest = xxhash.xxh3_64()
    for run in range(source.count):
        for offset in range(0, source.run_bytes, PORTION_BYTES):
            size = min(PORTION_BYTES, source.run_bytes - offset)
            at = run * source.run_bytes + offset
            ctypes.memmove(target + at, source.address + run * source.stride_bytes + offset, size)
            digest.update(slot[at : at + size])
    return digest.intdigest()
