"""The index that a clean shutdown leaves: makes the next start quick, and is believed only as far as it is proven."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.ssd import SsdFile
from kvstore.ssd_format import FIRST_SLOT, IndexSnapshot, decode_index, encode_index
from kvstore.vocabulary import DiskEntry
from tests.kvstore.disk import FINGERPRINT, SIZE, STRIDE, is_served, name, open_file, put

INDEX = "store-0.index"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store-0.kv"


def filled(path: Path, numbers: range = range(4)) -> tuple[SsdFile, list[DiskEntry]]:
    file = open_file(path)
    file.scan()
    return file, [DiskEntry(number, name(number), put(file, number, name(number)), 8) for number in numbers]


def closed_cleanly(path: Path) -> list[DiskEntry]:
    file, entries = filled(path)
    file.save_snapshot(entries[::-1])
    file.close()
    return entries


def test_a_clean_shutdown_makes_the_next_start_quick(path: Path) -> None:
    entries = closed_cleanly(path)
    file = open_file(path)
    found = file.scan()
    assert found.from_snapshot
    assert found.entries == entries[::-1], "in the order in which they were given"
    assert all(is_served(file, entry.slot, entry.name) for entry in entries)
    file.close()


def test_what_is_written_after_a_quick_start_is_later_than_all_before(path: Path) -> None:
    closed_cleanly(path)
    file = open_file(path)
    file.scan()
    put(file, 7, name(1))
    file.close()
    again = open_file(path)
    assert [(entry.slot, entry.name) for entry in again.scan().entries][-1] == (7, name(1))
    again.close()


def test_an_index_is_used_once(path: Path) -> None:
    closed_cleanly(path)
    index = (path.parent / INDEX).read_bytes()
    file = open_file(path)
    file.scan()
    assert not (path.parent / INDEX).exists()
    put(file, 1, name(50))  # and then it is killed
    file.close()
    (path.parent / INDEX).write_bytes(index)
    again = open_file(path)
    found = again.scan()
    assert not found.from_snapshot, "it is of an earlier opening, however whole it is"
    assert name(1) not in {entry.name for entry in found.entries}
    again.close()


def test_a_file_that_was_opened_and_not_scanned_does_not_trust_an_older_index(path: Path) -> None:
    closed_cleanly(path)
    open_file(path).close()
    file = open_file(path)
    found = file.scan()
    assert (found.from_snapshot, len(found.entries)) == (False, 4)
    file.close()


@pytest.mark.parametrize("torn", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"x" + data[41:]])
def test_a_torn_index_is_no_index(path: Path, torn: Callable[[bytes], bytes]) -> None:
    entries = closed_cleanly(path)
    index = path.parent / INDEX
    index.write_bytes(torn(index.read_bytes()))
    file = open_file(path)
    found = file.scan()
    assert (found.from_snapshot, found.entries) == (False, entries)
    file.close()


def forged(path: Path, **changes: object) -> None:
    index = decode_index((path.parent / INDEX).read_bytes())
    assert index is not None
    fields = {each: getattr(index, each) for each in IndexSnapshot.__slots__} | changes
    (path.parent / INDEX).write_bytes(encode_index(IndexSnapshot(**fields)))


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 5},
        {"opened": 7},
        {"fingerprint": bytes(32)},
        {"entries": (DiskEntry(1000, name(1), 0, 8),)},
        {"entries": (DiskEntry(1, name(1), 0, 8), DiskEntry(1, name(2), 0, 8))},
        {"entries": (DiskEntry(1, name(1), 0, 8), DiskEntry(2, name(1), 0, 8))},
        {"entries": (DiskEntry(3, name(1), 0, 8),)},
    ],
    ids=["epoch", "opening", "fingerprint", "slot beyond the file", "slot twice", "name twice", "not what is there"],
)
def test_an_index_that_does_not_fit_the_file_is_not_believed(path: Path, changes: dict[str, object]) -> None:
    entries = closed_cleanly(path)
    forged(path, **changes)
    file = open_file(path)
    found = file.scan()
    assert (found.from_snapshot, found.entries) == (False, entries)
    file.close()


def test_an_index_of_blocks_that_were_torn_since_serves_none_of_them(path: Path) -> None:
    entries = closed_cleanly(path)
    with path.open("r+b") as raw:
        raw.seek(FIRST_SLOT + 2 * STRIDE + 5000)
        raw.write(b"torn")
    file = open_file(path)
    found = file.scan()
    assert found.from_snapshot
    assert [is_served(file, entry.slot, entry.name) for entry in entries] == [True, True, False, True]
    file.close()


def test_the_index_of_a_file_that_was_removed_says_nothing_of_the_next(path: Path) -> None:
    closed_cleanly(path)
    index = (path.parent / INDEX).read_bytes()
    path.unlink()
    open_file(path).close()
    (path.parent / INDEX).write_bytes(index)
    file = open_file(path)
    found = file.scan()
    assert (found.from_snapshot, found.entries) == (False, [])
    file.close()


def test_a_reset_outdates_nothing_that_is_saved_after_it(path: Path) -> None:
    file, _ = filled(path)
    file.reset()
    entry = DiskEntry(4, name(4), put(file, 4, name(4)), 8)
    file.save_snapshot([entry])
    file.close()
    again = open_file(path)
    found = again.scan()
    assert (found.from_snapshot, found.entries) == (True, [entry])
    again.close()


def test_an_empty_file_has_an_index_too(path: Path) -> None:
    file = open_file(path)
    file.scan()
    file.save_snapshot([])
    file.close()
    again = open_file(path, SIZE, fingerprint=FINGERPRINT)
    found = again.scan()
    assert (found.from_snapshot, found.entries) == (True, [])
    again.close()


def test_an_index_is_encoded_whole() -> None:
    entries = tuple(DiskEntry(slot, name(slot + 2**64), 2**64 - 1 - slot, 64) for slot in range(1000))
    index = IndexSnapshot(2**62, 3, 17, FINGERPRINT, entries)
    assert decode_index(encode_index(index)) == index
