"""What an SSD file holds, by its slots' headers: one page read for each slot that was ever written.

Reads only headers, so what it finds are claims; a block is proven when it is read. A header
that is torn, stale, unreadable or somebody else's makes a free slot. Of two slots with one name the one written
later counts. Entries come in the order in which they were written, the oldest first.
"""

import mmap
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

from kvstore.layout import PAGE_BYTES
from kvstore.names import BlockName
from kvstore.ssd_format import FREE, SlotHeader, Superblock, decode_slot_header
from kvstore.vocabulary import DiskEntry

THREADS = 8
"""One page takes 100 us and more, hardly any of it ours; with this many at once 25 us a slot, and no less with more."""

NEAR_BYTES = 12 * 1024
"""Slots this close together are read whole, many at a time, which is faster then."""

NEAR_THREADS = 2
"""Then it is headers that take the time, which one thread at a time decodes: more of them only keep others waiting."""

CHUNK_BYTES = 1 << 20

UNREADABLE_SHARE = 1 / 8
"""Of the headers. A sector may go bad, and costs its block; where more can't be read it is the disk that failed."""


@dataclass(frozen=True, slots=True)
class Scan:
    """entries: oldest first. torn: headers that are there but not intact, or can't be read. from_snapshot: no slot was
    searched."""

    entries: list[DiskEntry]
    torn: int
    seconds: float
    read_bytes: int
    from_snapshot: bool


@dataclass(slots=True)
class Found:
    """What a search of slots found. sequence: the highest of any intact header, of whatever epoch.

    unreadable: why each header that could not be read could not.
    """

    headers: list[SlotHeader] = field(default_factory=list)
    torn: int = 0
    unreadable: list[OSError] = field(default_factory=list)
    read_bytes: int = 0
    sequence: int = 0

    def add(self, slot: int, page: memoryview, block: Superblock) -> None:
        header = decode_slot_header(page)
        if header is None:
            self.torn += page[: len(FREE)] != FREE
            return
        self.sequence = max(self.sequence, header.sequence)
        if is_current(header, slot, block):
            self.headers.append(header)

    def entries(self) -> list[DiskEntry]:
        latest: dict[BlockName, SlotHeader] = {}
        for header in sorted(self.headers, key=lambda header: header.sequence):
            latest.pop(header.name, None)  # moves it to where the later one was written
            latest[header.name] = header
        return [DiskEntry(each.slot, each.name, each.checksum, each.tokens) for each in latest.values()]


def is_current(header: SlotHeader, slot: int, block: Superblock) -> bool:
    """Whether this intact header is one of this file as it is now, and of this slot."""
    ours = (slot, block.epoch, block.fingerprint, block.block_bytes)
    return (header.slot, header.epoch, header.fingerprint, header.length) == ours


def search(descriptor: int, block: Superblock) -> Found:
    """Read the headers of all slots that were ever written. Raises OSError where too many can't be read."""
    step = max(1, CHUNK_BYTES // block.stride) if block.stride <= NEAR_BYTES else 64
    ranges = [range(first, min(first + step, block.used)) for first in range(0, block.used, step)]
    threads = NEAR_THREADS if block.stride <= NEAR_BYTES else THREADS
    found = _merged(_in_threads(descriptor, block, ranges, threads))
    if len(found.unreadable) > UNREADABLE_SHARE * block.used:
        raise found.unreadable[0]
    return found


def search_some(descriptor: int, block: Superblock, slots: Iterable[int]) -> Found:
    """Read the headers of these slots."""
    return _merged(_in_threads(descriptor, block, [range(slot, slot + 1) for slot in slots], THREADS))


def _in_threads(descriptor: int, block: Superblock, ranges: list[range], threads: int) -> list[Found]:
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        return list(pool.map(lambda slots: _search(descriptor, block, slots), ranges))


def _search(descriptor: int, block: Superblock, slots: range) -> Found:
    found = Found()
    near = block.stride <= NEAR_BYTES and len(slots) > 1
    with mmap.mmap(-1, block.stride * len(slots) if near else PAGE_BYTES) as memory, memoryview(memory) as buffer:
        if near:
            try:
                found.read_bytes += os.preadv(descriptor, [buffer], block.slot_offset(slots.start))
            except OSError:
                return _merged([_search(descriptor, block, range(slot, slot + 1)) for slot in slots])
            for place, slot in enumerate(slots):
                with buffer[place * block.stride :][:PAGE_BYTES] as page:
                    found.add(slot, page, block)
            return found
        for slot in slots:
            try:
                found.read_bytes += os.preadv(descriptor, [buffer], block.slot_offset(slot))
            except OSError as error:
                found.unreadable.append(error)
            else:
                found.add(slot, buffer, block)
    return found


def _merged(parts: list[Found]) -> Found:
    return Found(
        list(chain.from_iterable(part.headers for part in parts)),
        sum(part.torn for part in parts),
        list(chain.from_iterable(part.unreadable for part in parts)),
        sum(part.read_bytes for part in parts),
        max((part.sequence for part in parts), default=0),
    )
