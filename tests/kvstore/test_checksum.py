"""A block's checksum says whether a reader has the very bytes that were sealed."""

import random

import xxhash

from kvstore.checksum import slot_checksum
from tests.kvstore.builders import LAYOUT


def arena(slots: int) -> bytearray:
    return bytearray(random.Random(7).randbytes(slots * LAYOUT.slot_bytes))


def test_a_checksum_covers_every_byte_of_the_block_and_none_of_the_padding() -> None:
    memory = arena(3)
    before = slot_checksum(memoryview(memory), 1, LAYOUT)
    start = LAYOUT.slot_bytes
    for place in (0, *LAYOUT.layer_offsets, LAYOUT.block_bytes - 1):
        memory[start + place] ^= 1
        assert slot_checksum(memoryview(memory), 1, LAYOUT) != before
        memory[start + place] ^= 1
    for place in (-1, LAYOUT.block_bytes, LAYOUT.slot_bytes):
        memory[start + place] ^= 1
    assert slot_checksum(memoryview(memory), 1, LAYOUT) == before


def test_swapped_layers_have_another_checksum() -> None:
    memory = arena(1)
    before = slot_checksum(memoryview(memory), 0, LAYOUT)
    first, second = slice(0, 3000), slice(3000, 6000)
    memory[first], memory[second] = memory[second], memory[first]
    assert slot_checksum(memoryview(memory), 0, LAYOUT) != before


def test_it_is_xxh3_of_64_bits_that_fit_a_fixed64() -> None:
    memory = arena(1)
    assert slot_checksum(memoryview(memory), 0, LAYOUT) == xxhash.xxh3_64_intdigest(memory[: LAYOUT.block_bytes])
    assert 0 <= slot_checksum(memoryview(memory), 0, LAYOUT) < 2**64
