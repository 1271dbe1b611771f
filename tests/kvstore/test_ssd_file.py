"""The SSD file: what was written is found again and proven, and nothing else is ever served."""

import errno
import fcntl
import mmap
import os
import stat
from pathlib import Path

import pytest

from kvstore import ssd_scan
from kvstore.layout import KvLayout
from kvstore.ssd import SsdError, SsdFile
from kvstore.ssd_format import FIRST_SLOT
from kvstore.vocabulary import DiskEntry
from tests.kvstore.disk import FINGERPRINT, SIZE, SLOTS, STRIDE, is_served, name, open_file, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ssd" / "store-0.kv"


def filled(path: Path, numbers: range = range(4)) -> list[DiskEntry]:
    """A file with these blocks, each in the slot of its number, closed as a SIGKILL would leave it."""
    file = open_file(path)
    file.scan()
    entries = [DiskEntry(number, name(number), put(file, number, name(number)), 8) for number in numbers]
    file.close()
    return entries


def test_what_is_written_is_read_again(path: Path) -> None:
    file = open_file(path)
    put(file, 3, name(7))
    assert is_served(file, 3, name(7))
    assert not is_served(file, 4, name(7)), "another slot"
    assert not is_served(file, 3, name(8)), "another name"
    file.close()


def test_the_file_is_private_and_reserved_whole(path: Path) -> None:
    file = open_file(path)
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert (file.slots, file.size_bytes, status.st_size) == (SLOTS, SIZE, SIZE)
    assert status.st_blocks * 512 >= SIZE
    file.close()


@pytest.mark.parametrize("near_bytes", [0, 1 << 20], ids=["page by page", "many at once"])
def test_a_header_that_cannot_be_read_costs_its_own_block_only(
    path: Path, monkeypatch: pytest.MonkeyPatch, near_bytes: int
) -> None:
    entries = filled(path)
    bad = FIRST_SLOT + 2 * STRIDE
    monkeypatch.setattr(ssd_scan, "NEAR_BYTES", near_bytes)
    monkeypatch.setattr(ssd_scan, "os", BadSector(bad))
    file = open_file(path)
    found = file.scan()
    assert found.entries == [entry for entry in entries if entry.slot != 2]
    assert found.torn == 1
    file.close()


def test_a_disk_whose_headers_cannot_be_read_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    monkeypatch.setattr(ssd_scan, "os", BadSector(*range(FIRST_SLOT, SIZE, STRIDE)))
    file = open_file(path)
    with pytest.raises(OSError, match="a bad sector"):
        file.scan()
    file.close()


class BadSector:
    """The part of ``os`` that a search uses, over a disk that can't read these places."""

    def __init__(self, *places: int) -> None:
        self._places = places

    def preadv(self, descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if any(offset <= place < offset + len(buffers[0]) for place in self._places):
            raise OSError(errno.EIO, "a bad sector")
        return os.preadv(descriptor, buffers, offset)


def test_a_restart_finds_every_block_oldest_first(path: Path) -> None:
    entries = filled(path)
    file = open_file(path)
    found = file.scan()
    assert found.entries == entries
    assert (found.torn, found.from_snapshot) == (0, False)
    assert all(is_served(file, entry.slot, entry.name) for entry in entries)
    file.close()


def test_a_scan_reads_no_more_than_the_headers_of_slots_that_were_written(path: Path) -> None:
    big = KvLayout(8, (200_000,), "bytes")
    size_bytes = FIRST_SLOT + 1000 * (4096 + big.slot_bytes)
    file = SsdFile.open(path, size_bytes, fingerprint=FINGERPRINT, layout=big)
    file.write(0, name(0), 0, 8, memoryview(mmap.mmap(-1, big.slot_bytes)))
    file.close()
    again = SsdFile.open(path, size_bytes, fingerprint=FINGERPRINT, layout=big)
    found = again.scan()
    assert [entry.name for entry in found.entries] == [name(0)]
    assert found.read_bytes <= 65 * 4096
    again.close()


def test_of_two_slots_with_one_name_the_later_one_counts(path: Path) -> None:
    filled(path)
    file = open_file(path)
    file.scan()
    put(file, 9, name(1))
    file.close()
    again = open_file(path)
    assert [(entry.slot, entry.name) for entry in again.scan().entries] == [
        (0, name(0)),
        (2, name(2)),
        (3, name(3)),
        (9, name(1)),
    ]
    again.close()


def test_a_slot_that_is_written_again_holds_the_later_block_only(path: Path) -> None:
    filled(path)
    file = open_file(path)
    file.scan()
    put(file, 1, name(11))
    assert not is_served(file, 1, name(1))
    assert is_served(file, 1, name(11))
    file.close()


def test_a_second_store_on_the_same_file_is_refused_in_a_sentence(path: Path) -> None:
    file = open_file(path)
    with pytest.raises(SsdError, match=r"in use by another store: give each its own --data-dir or --id"):
        open_file(path)
    assert path.exists()
    file.close()
    open_file(path).close()


def test_blocks_of_another_deployment_are_begun_anew(path: Path) -> None:
    filled(path)
    other = open_file(path, fingerprint=bytes(32))
    assert other.begun_anew == "it holds blocks of another deployment"
    assert other.scan().entries == []
    other.close()
    back = open_file(path)
    assert back.scan().entries == [], "and nothing of the first is left"
    back.close()


def test_a_file_that_is_none_of_ours_is_begun_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(os.urandom(SIZE))
    file = open_file(path)
    assert file.begun_anew == "it is not intact, or of another version"
    assert file.scan().entries == []
    put(file, 0, name(0))
    assert is_served(file, 0, name(0))
    file.close()


def test_a_new_file_is_not_said_to_be_begun_anew(path: Path) -> None:
    file = open_file(path)
    assert file.begun_anew is None
    file.close()


def test_a_torn_superblock_leaves_the_one_before_it(path: Path) -> None:
    entries = filled(path)
    with path.open("r+b") as raw:
        pages = [raw.read(4096) for _ in range(2)]
        latest = max((0, 1), key=lambda page: int.from_bytes(pages[page][16:24], "little"))
        raw.seek(latest * 4096 + 100)
        raw.write(b"torn")
    file = open_file(path)
    assert file.begun_anew is None
    assert set(file.scan().entries) <= set(entries)
    file.close()


def test_a_reset_leaves_nothing_to_be_found(path: Path) -> None:
    filled(path)
    file = open_file(path)
    file.scan()
    file.reset()
    assert not is_served(file, 0, name(0))
    put(file, 2, name(5))
    file.close()
    again = open_file(path)
    assert [entry.name for entry in again.scan().entries] == [name(5)]
    again.close()


@pytest.mark.parametrize(("slots", "left"), [(3, 3), (SLOTS, 4), (2 * SLOTS, 4)])
def test_another_size_keeps_what_fits(path: Path, slots: int, left: int) -> None:
    entries = filled(path)
    size_bytes = FIRST_SLOT + slots * STRIDE
    file = open_file(path, size_bytes)
    assert (file.slots, path.stat().st_size) == (slots, size_bytes)
    assert file.scan().entries == entries[:left]
    put(file, slots - 1, name(99))
    assert is_served(file, slots - 1, name(99))
    file.close()


def test_too_little_room_is_a_sentence_and_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SsdError, match=r"the SSD file needs 0 MiB in .* free: give a smaller --ssd, or a --data-dir"):
        open_file(path)
    assert list(path.parent.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_too_little_room_to_grow_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = filled(path)
    with monkeypatch.context() as patch:

        def full(descriptor: int, offset: int, length: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(SsdError, match="give a smaller --ssd"):
            open_file(path, 2 * SIZE)
    file = open_file(path)
    assert file.scan().entries == entries
    file.close()


def test_room_for_not_even_one_block_is_a_sentence(path: Path) -> None:
    with pytest.raises(SsdError, match="give a larger --ssd"):
        open_file(path, STRIDE)


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "ssd").write_text("a file")
    with pytest.raises(SsdError, match=r"the SSD file .* can't be used: (File exists|Not a directory)"):
        open_file(tmp_path / "ssd" / "store-0.kv")


def test_a_link_to_elsewhere_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(SsdError, match="can't be used"):
        open_file(path)
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_file_system_without_direct_io_works_with_buffers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.fcntl

    def without_direct(descriptor: int, command: int, flags: int = 0) -> int:
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(descriptor, command, flags)

    monkeypatch.setattr(fcntl, "fcntl", without_direct)
    entries = filled(path)
    file = open_file(path)
    assert not file.direct
    assert file.scan().entries == entries
    assert is_served(file, 0, name(0))
    file.close()


def test_direct_io_is_used_where_it_can_be(path: Path) -> None:
    file = open_file(path)
    with path.open("r+b") as raw:
        flags = fcntl.fcntl(raw.fileno(), fcntl.F_GETFL)
        try:
            fcntl.fcntl(raw.fileno(), fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            pytest.skip("no direct I/O on this file system")
    assert file.direct
    file.close()


def test_a_file_that_was_removed_is_an_error_at_the_next_call(path: Path) -> None:
    file = open_file(path)
    put(file, 0, name(0))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="removed"):
        put(file, 1, name(1))
    with pytest.raises(FileNotFoundError, match="removed"):
        is_served(file, 0, name(0))
    file.close()


def test_a_file_that_was_cut_short_is_an_error_when_it_is_read(path: Path) -> None:
    file = open_file(path)
    put(file, SLOTS - 1, name(0))
    os.truncate(path, SIZE - STRIDE)
    with pytest.raises(OSError, match="the file was cut to"):
        is_served(file, SLOTS - 1, name(0))
    file.close()


def test_a_block_that_was_written_in_part_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_file(path)
    put(file, 0, name(0))
    pwritev = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda descriptor, parts, at: pwritev(descriptor, parts[:1], at))
    with pytest.raises(OSError, match="written in part"):
        put(file, 1, name(1))
    file.close()
