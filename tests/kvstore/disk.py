"""An SSD file in a test's directory, and blocks whose content follows from their name."""

import mmap
import random
from pathlib import Path

import xxhash

from kvstore.layout import PAGE_BYTES, KvLayout
from kvstore.names import BlockName
from kvstore.ssd import SsdFile
from kvstore.ssd_format import FIRST_SLOT

LAYOUT = KvLayout(8, (5000, 4000), "bytes")
"""9,000 bytes that count, in a slot of three pages; with its header a slot of the file takes four."""

FINGERPRINT = bytes(range(32))
STRIDE = PAGE_BYTES + LAYOUT.slot_bytes
SLOTS = 10
SIZE = FIRST_SLOT + SLOTS * STRIDE


def name(number: int) -> BlockName:
    return BlockName(number.to_bytes(16, "big"))


def content(of: BlockName) -> bytes:
    return random.Random(of).randbytes(LAYOUT.block_bytes)


def slot_memory() -> memoryview:
    """A slot of an arena, aligned as one."""
    return memoryview(mmap.mmap(-1, LAYOUT.slot_bytes))


def open_file(path: Path, size_bytes: int = SIZE, *, fingerprint: bytes = FINGERPRINT) -> SsdFile:
    return SsdFile.open(path, size_bytes, fingerprint=fingerprint, layout=LAYOUT)


def put(file: SsdFile, slot: int, block: BlockName) -> int:
    """Write the block; its checksum."""
    memory = slot_memory()
    memory[: LAYOUT.block_bytes] = content(block)
    checksum = xxhash.xxh3_64_intdigest(content(block))
    file.write(slot, block, checksum, LAYOUT.block_tokens, memory)
    return checksum


def is_served(file: SsdFile, slot: int, block: BlockName) -> bool:
    """Whether the slot is read as this block; what is read is then what was written."""
    memory = slot_memory()
    served = file.read(slot, block, xxhash.xxh3_64_intdigest(content(block)), memory)
    assert not served or bytes(memory[: LAYOUT.block_bytes]) == content(block), "a wrong block was served"
    return served
