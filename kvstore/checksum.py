"""The checksum that travels with a block: xxh3-64 over the bytes that carry meaning.

It finds torn and swapped bytes, not forgery. On one core 25 GB/s from the caches, where a
block is right after it was written, 8 GB/s from memory; the interpreter is free meanwhile.
"""

import xxhash

from kvstore.layout import KvLayout


def slot_checksum(arena: memoryview, slot: int, layout: KvLayout) -> int:
    """Of the block in ``slot``, in [0, 2**64). arena: bytes; padding after the last layer is left out."""
    start = slot * layout.slot_bytes
    return xxhash.xxh3_64_intdigest(arena[start : start + layout.block_bytes])
