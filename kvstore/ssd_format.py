"""The bytes of an SSD file: superblock, slot header, and the index that a clean shutdown leaves.

Pure: values to bytes and back. Whatever is read may be torn, stale or somebody else's: decoding
says so with None, never with an exception, and what it returns is what was encoded, whole.

    page 0, page 1     superblock, written in turns; of those intact the one with the higher sequence counts
    then slots:        | header page | the block, as it lies in the arena's slot |  ..  every ``stride`` bytes

The last 8 bytes of every page described here are the xxh3-64 of all bytes before them.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from kvstore.layout import PAGE_BYTES, KvLayout
from kvstore.names import NAME_BYTES, BlockName
from kvstore.vocabulary import DiskEntry

VERSION = 1
FIRST_SLOT = 2 * PAGE_BYTES
"""Where slot 0 begins: behind both superblocks."""

FILE_FIELDS = {
    "magic": "8s",
    "version": "I",
    "page bytes": "I",
    "sequence": "Q",
    "epoch": "Q",
    "fingerprint": "32s",
    "layout digest": "32s",
    "stride": "Q",
    "block bytes": "Q",
    "slots": "Q",
    "used": "Q",
    "opened": "Q",
}
SLOT_FIELDS = {
    "magic": "8s",
    "version": "I",
    "tokens": "I",
    "slot": "Q",
    "epoch": "Q",
    "sequence": "Q",
    "fingerprint": "32s",
    "name": "16s",
    "length": "Q",
    "checksum": "Q",
}
INDEX_FIELDS = {
    "magic": "8s",
    "version": "I",
    "entry bytes": "I",
    "epoch": "Q",
    "opened": "Q",
    "sequence": "Q",
    "fingerprint": "32s",
    "entries": "Q",
}
"""What comes after what, little-endian and without gaps, in the codes of ``struct``."""

_FILE_MAGIC = b"mpkvfile"
_SLOT_MAGIC = b"mpkvslot"
_INDEX_MAGIC = b"mpkvindx"
_FILE, _SLOT, _INDEX = (struct.Struct("<" + "".join(it.values())) for it in (FILE_FIELDS, SLOT_FIELDS, INDEX_FIELDS))
_CHECKSUM = struct.Struct("<Q")
_BODY = PAGE_BYTES - _CHECKSUM.size
_ROW = np.dtype([("slot", "<u4"), ("tokens", "<u4"), ("name", f"V{NAME_BYTES}"), ("checksum", "<u8")])

FREE = bytes(_SLOT.size)
"""How the header of a slot that was never written begins."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a file is. Only a file that is equal in ``format`` holds blocks of use.

    sequence: goes up with each superblock written. epoch: of the slots that count; bumping it
    empties the file. opened: how often it was opened. slots: how many there are;
    used: slots from this number on were never written in this file.
    """

    fingerprint: bytes
    layout: str
    stride: int
    block_bytes: int
    slots: int
    sequence: int = 0
    epoch: int = 1
    opened: int = 0
    used: int = 0

    @property
    def format(self) -> tuple[bytes, str, int, int]:
        return self.fingerprint, self.layout, self.stride, self.block_bytes

    def slot_offset(self, slot: int) -> int:
        return FIRST_SLOT + slot * self.stride

    @property
    def file_bytes(self) -> int:
        return self.slot_offset(self.slots)

    @classmethod
    def for_size(cls, size_bytes: int, *, fingerprint: bytes, layout: KvLayout) -> "Superblock":
        """Of a new file of at most ``size_bytes``; ``slots`` may be 0."""
        stride = PAGE_BYTES + layout.slot_bytes
        slots = max(0, (size_bytes - FIRST_SLOT) // stride)
        return cls(fingerprint, layout.digest, stride, layout.block_bytes, slots)


@dataclass(frozen=True, slots=True)
class SlotHeader:
    """What says of a slot's bytes which block they are. sequence: of the write, within the file; later is higher."""

    slot: int
    name: BlockName
    tokens: int
    length: int
    checksum: int
    epoch: int
    sequence: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class IndexSnapshot:
    """What a clean shutdown remembers of the file that was opened ``opened`` times by then."""

    epoch: int
    opened: int
    sequence: int
    fingerprint: bytes
    entries: tuple[DiskEntry, ...]


def encode_superblock(block: Superblock) -> bytes:
    body = _FILE.pack(
        _FILE_MAGIC,
        VERSION,
        PAGE_BYTES,
        block.sequence,
        block.epoch,
        block.fingerprint,
        block.layout.encode(),
        block.stride,
        block.block_bytes,
        block.slots,
        block.used,
        block.opened,
    )
    filled = body + bytes(_BODY - len(body))
    return filled + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(filled))


def decode_superblock(page: bytes | memoryview) -> Superblock | None:
    """None where it is torn, or of another version."""
    if not _is_intact(page):
        return None
    magic, version, page_bytes, sequence, epoch, fingerprint, layout, *rest = _FILE.unpack_from(page)
    if (magic, version, page_bytes) != (_FILE_MAGIC, VERSION, PAGE_BYTES):
        return None
    stride, block_bytes, slots, used, opened = rest
    return Superblock(
        fingerprint, layout.decode("ascii", "replace"), stride, block_bytes, slots, sequence, epoch, opened, used
    )


def newest_superblock(pages: Sequence[bytes | memoryview]) -> Superblock | None:
    """Of those that are intact; None where none is."""
    intact = [block for block in map(decode_superblock, pages) if block is not None]
    return max(intact, key=lambda block: block.sequence, default=None)


def superblock_offset(sequence: int) -> int:
    """Written in turns, so that a torn one leaves the one before it."""
    return sequence % 2 * PAGE_BYTES


def encode_slot_header(header: SlotHeader, page: memoryview) -> None:
    """Into ``page``, PAGE_BYTES of it. Rewrites what an earlier header left there; the rest must be zeros."""
    _SLOT.pack_into(
        page,
        0,
        _SLOT_MAGIC,
        VERSION,
        header.tokens,
        header.slot,
        header.epoch,
        header.sequence,
        header.fingerprint,
        header.name,
        header.length,
        header.checksum,
    )
    _CHECKSUM.pack_into(page, _BODY, xxhash.xxh3_64_intdigest(page[:_BODY]))


def decode_slot_header(page: bytes | memoryview) -> SlotHeader | None:
    """None where it is torn, of another version, or no header at all."""
    if not _is_intact(page):
        return None
    magic, version, tokens, slot, epoch, sequence, fingerprint, name, length, checksum = _SLOT.unpack_from(page)
    if (magic, version) != (_SLOT_MAGIC, VERSION):
        return None
    return SlotHeader(slot, BlockName(name), tokens, length, checksum, epoch, sequence, fingerprint)


def encode_index(index: IndexSnapshot) -> bytes:
    rows = np.zeros(len(index.entries), _ROW)
    rows["slot"] = [entry.slot for entry in index.entries]
    rows["tokens"] = [entry.tokens for entry in index.entries]
    names = np.frombuffer(b"".join(entry.name for entry in index.entries), f"V{NAME_BYTES}")
    rows["name"] = names
    rows["checksum"] = np.array([entry.checksum for entry in index.entries], "<u8")
    head = _INDEX.pack(
        _INDEX_MAGIC,
        VERSION,
        _ROW.itemsize,
        index.epoch,
        index.opened,
        index.sequence,
        index.fingerprint,
        len(index.entries),
    )
    body = head + rows.tobytes()
    return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))


def decode_index(data: bytes) -> IndexSnapshot | None:
    """None where it is torn, or of another version."""
    body = data[: -_CHECKSUM.size]
    if len(body) < _INDEX.size or _CHECKSUM.unpack(data[len(body) :])[0] != xxhash.xxh3_64_intdigest(body):
        return None
    magic, version, row_bytes, epoch, opened, sequence, fingerprint, count = _INDEX.unpack_from(body)
    fits = len(body) == _INDEX.size + count * _ROW.itemsize
    if (magic, version, row_bytes) != (_INDEX_MAGIC, VERSION, _ROW.itemsize) or not fits:
        return None
    rows = np.frombuffer(body, _ROW, offset=_INDEX.size)
    columns = (rows["slot"].tolist(), rows["name"].tolist(), rows["checksum"].tolist(), rows["tokens"].tolist())
    entries = tuple(
        DiskEntry(slot, BlockName(name), checksum, tokens)
        for slot, name, checksum, tokens in zip(*columns, strict=True)
    )
    return IndexSnapshot(epoch, opened, sequence, fingerprint, entries)


def _is_intact(page: bytes | memoryview) -> bool:
    return bool(_CHECKSUM.unpack_from(page, _BODY)[0] == xxhash.xxh3_64_intdigest(page[:_BODY]))
