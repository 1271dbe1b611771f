"""The SSD file: a store's blocks on disk, each in a slot that says of itself what it holds.

One file for each store, reserved whole and locked, with direct I/O straight between the file and
the arena's slots. Every call blocks; reading and writing may be done by several threads at once, never two
on one slot. Nothing here decides what is kept: that is the catalog's. What can't be proven to
be the block that was written, by header and checksum, is never handed out.
"""

import errno
import fcntl
import itertools
import mmap
import os
import secrets
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import xxhash

from kvstore.file_errors import mib, told_as
from kvstore.layout import PAGE_BYTES, KvLayout
from kvstore.names import BlockName
from kvstore.ssd_format import (
    FIRST_SLOT,
    IndexSnapshot,
    SlotHeader,
    Superblock,
    decode_index,
    decode_slot_header,
    encode_index,
    encode_slot_header,
    encode_superblock,
    newest_superblock,
    superblock_offset,
)
from kvstore.ssd_scan import Scan, is_current, search, search_some
from kvstore.vocabulary import DiskEntry

SUFFIX = ".kv"
INDEX_SUFFIX = ".index"

SAMPLE = 64
"""Entries of an index snapshot that are compared with the file before the rest is believed, until it is read."""


class SsdError(Exception):
    """The file can't be had; the message is a sentence for the operator."""


class _Pages(threading.local):
    """One page of memory for each thread, aligned as direct I/O wants it."""

    def __init__(self) -> None:
        self.page = memoryview(mmap.mmap(-1, PAGE_BYTES))


class SsdFile:
    """An open file. direct: its I/O passes the page cache by. begun_anew: why what it held is gone, or None."""

    def __init__(self, path: Path, descriptor: int, block: Superblock, *, direct: bool, begun_anew: str | None) -> None:
        """Owns ``descriptor``; use ``open``."""
        self.path = path
        self.direct = direct
        self.begun_anew = begun_anew
        self._descriptor = descriptor
        self._block = block
        self._lock = threading.Lock()  # of the superblock
        self._pages = _Pages()
        self._sequence = itertools.count(1)

    @classmethod
    def open(cls, path: Path, size_bytes: int, *, fingerprint: bytes, layout: KvLayout) -> "SsdFile":
        """Open or make the file, of at most ``size_bytes``, reserve all of it, and lock it.

        A file of another fingerprint or layout is begun anew; one of another size keeps what fits.
        SsdError where another store has it, where there is too little room, or it can't be used.
        """
        wanted = Superblock.for_size(size_bytes, fingerprint=fingerprint, layout=layout)
        if not wanted.slots:
            raise SsdError(
                f"the SSD file needs {FIRST_SLOT + wanted.stride} bytes for a single block: give a larger --ssd"
            )
        with told_as(SsdError, f"the SSD file {path} can't be used"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = _open_locked(path)
            try:
                block, reason = _prepared(descriptor, path, wanted)
                file = cls(path, descriptor, block, direct=_made_direct(descriptor), begun_anew=reason)
                file._save(replace(block, opened=block.opened + 1))
                return file
            except BaseException:
                if not os.fstat(descriptor).st_size:
                    path.unlink(missing_ok=True)  # it is new, or worth as much
                os.close(descriptor)
                raise

    @property
    def slots(self) -> int:
        return self._block.slots

    @property
    def stride(self) -> int:
        """Bytes of the file that one block takes."""
        return self._block.stride

    @property
    def epoch(self) -> int:
        return self._block.epoch

    @property
    def size_bytes(self) -> int:
        return self._block.file_bytes

    def scan(self) -> Scan:
        """What it holds, by the index of a clean shutdown or else by every header. Once, before the first write.

        Either way entries are claims that ``read`` proves. Raises OSError.
        """
        start = time.monotonic()
        index, read_bytes = self._index()
        if index is not None:
            entries, torn = list(index.entries), 0
            self._sequence = itertools.count(index.sequence)
        else:
            found = search(self._descriptor, self._block)
            entries, torn = found.entries(), found.torn + len(found.unreadable)
            read_bytes += found.read_bytes
            self._sequence = itertools.count(found.sequence + 1)
        return Scan(entries, torn, time.monotonic() - start, read_bytes, index is not None)

    def write(self, slot: int, name: BlockName, checksum: int, tokens: int, payload: memoryview) -> None:
        """Header and block in one request. payload: a whole slot of the arena, page-aligned. Raises OSError."""
        self.check_there()
        if slot >= self._block.used:
            self._use(slot)
        block, page = self._block, self._pages.page
        header = SlotHeader(
            slot, name, tokens, block.block_bytes, checksum, block.epoch, next(self._sequence), block.fingerprint
        )
        encode_slot_header(header, page)
        if os.pwritev(self._descriptor, [page, payload], block.slot_offset(slot)) != block.stride:
            raise OSError(errno.ENOSPC, "a block was written in part")

    def read(self, slot: int, name: BlockName, checksum: int, into: memoryview) -> bool:
        """Into a whole slot of the arena, page-aligned. False where it is not this block, whole. Raises OSError."""
        self.check_there()
        block, page = self._block, self._pages.page
        if os.preadv(self._descriptor, [page, into], block.slot_offset(slot)) != block.stride:
            raise OSError(errno.EIO, "the file is shorter than it was")
        header = decode_slot_header(page)
        if header is None or not is_current(header, slot, block) or (header.name, header.checksum) != (name, checksum):
            return False
        return xxhash.xxh3_64_intdigest(into[: block.block_bytes]) == checksum

    def reset(self) -> None:
        """Nothing that it holds counts any more. While no other call is under way. Raises OSError."""
        with self._lock:
            self._save(replace(self._block, epoch=self._block.epoch + 1, used=0))

    def save_snapshot(self, entries: Sequence[DiskEntry]) -> None:
        """For a quick start next time, at a clean shutdown; useless from the next opening on. Raises OSError."""
        block = self._block
        index = IndexSnapshot(block.epoch, block.opened, next(self._sequence), block.fingerprint, tuple(entries))
        making = self._index_path.with_suffix(INDEX_SUFFIX + ".new")
        with open(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(encode_index(index))
            file.flush()
            os.fsync(file.fileno())
        making.replace(self._index_path)

    def close(self) -> None:
        """Gives up the lock. While no other call is under way; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _index_path(self) -> Path:
        return self.path.with_suffix(INDEX_SUFFIX)

    def _index(self) -> tuple[IndexSnapshot | None, int]:
        """The last shutdown's index if it is whole and agrees with the file, and the bytes read for that.

        It is removed, since it is out of date with the next write.
        """
        try:
            data = self._index_path.read_bytes()
            self._index_path.unlink()
        except OSError:
            return None, 0
        index = decode_index(data)
        if index is None or not self._is_of_last_shutdown(index):
            return None, len(data)
        step = max(1, len(index.entries) // SAMPLE)
        sample = {entry.slot: entry for entry in index.entries[::step]}
        found = search_some(self._descriptor, self._block, sample)
        agrees = {entry.slot: entry for entry in found.entries()} == sample
        return index if agrees else None, len(data) + found.read_bytes

    def _is_of_last_shutdown(self, index: IndexSnapshot) -> bool:
        """Of this file, written when it was closed last, and consistent in itself."""
        block = self._block
        if (index.epoch, index.opened + 1, index.fingerprint) != (block.epoch, block.opened, block.fingerprint):
            return False
        slots = {entry.slot for entry in index.entries}
        names = {entry.name for entry in index.entries}
        return len(slots) == len(names) == len(index.entries) and max(slots, default=-1) < block.slots

    def check_there(self) -> None:
        """Raises OSError where the file was removed, replaced or cut: writing to it would go on without a word, and be
        lost."""
        status = os.fstat(self._descriptor)
        try:
            named = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "the file was removed") from None
        if not os.path.samestat(status, named):
            raise FileNotFoundError(errno.ENOENT, "another file was put in its place")
        if status.st_size < self._block.file_bytes:
            raise OSError(errno.EIO, f"the file was cut to {status.st_size} of {self._block.file_bytes} bytes")

    def _use(self, slot: int) -> None:
        """Let a scan search up to this slot and some beyond, before it is written."""
        with self._lock:
            if slot >= self._block.used:
                ahead = max(64, self._block.slots // 64)
                self._save(replace(self._block, used=min(slot + ahead, self._block.slots)))

    def _save(self, block: Superblock) -> None:
        block = replace(block, sequence=block.sequence + 1)
        with mmap.mmap(-1, PAGE_BYTES) as memory, memoryview(memory) as page:
            page[:] = encode_superblock(block)
            os.pwritev(self._descriptor, [page], superblock_offset(block.sequence))
        os.fdatasync(self._descriptor)
        self._block = block


def _open_locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise SsdError(f"the SSD file {path} can't be used: it is no file of this user")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise SsdError(
                f"the SSD file {path} is in use by another store: give each its own --data-dir or --id"
            ) from error
        raise
    return descriptor


def _prepared(descriptor: int, path: Path, wanted: Superblock) -> tuple[Superblock, str | None]:
    """The file reserved in the wanted size, with what it held if that is of use; else emptied, and why."""
    found = newest_superblock([os.pread(descriptor, PAGE_BYTES, at).ljust(PAGE_BYTES) for at in (0, PAGE_BYTES)])
    size_bytes = os.fstat(descriptor).st_size
    if found is None or found.format != wanted.format:
        reason = "it is not intact, or of another version" if found is None else "it holds blocks of another deployment"
        path.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)
        os.ftruncate(descriptor, 0)
        _reserve(descriptor, path, wanted.file_bytes, keep_bytes=0)
        return replace(wanted, epoch=secrets.randbits(62) | 1), reason if size_bytes else None
    if size_bytes > wanted.file_bytes:
        os.ftruncate(descriptor, wanted.file_bytes)
    _reserve(descriptor, path, wanted.file_bytes, keep_bytes=min(size_bytes, wanted.file_bytes))
    return replace(found, slots=wanted.slots, used=min(found.used, wanted.slots)), None


def _reserve(descriptor: int, path: Path, size_bytes: int, *, keep_bytes: int) -> None:
    """Every page, so that a full disk is a sentence now and not an error at some later write."""
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as failure:
        os.ftruncate(descriptor, keep_bytes)
        if failure.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        space = os.statvfs(path.parent)
        raise SsdError(
            f"the SSD file needs {mib(size_bytes)} in {path.parent}, which has {mib(space.f_bavail * space.f_frsize)}"
            " free: give a smaller --ssd, or a --data-dir with more room"
        ) from failure


def _made_direct(descriptor: int) -> bool:
    """Whether this file system does direct I/O, which is on from here on then."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        with mmap.mmap(-1, PAGE_BYTES) as memory:
            os.preadv(descriptor, [memory], 0)
    except OSError as failure:
        if failure.errno != errno.EINVAL:
            raise
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
        return False
    return True
