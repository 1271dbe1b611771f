"""Torn slots, written by hand: whatever region of header or payload is torn, the block is not served."""

from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from kvstore.layout import PAGE_BYTES
from kvstore.names import BlockName
from kvstore.ssd_format import FIRST_SLOT, SlotHeader, decode_slot_header, encode_slot_header
from tests.kvstore.disk import LAYOUT, STRIDE, is_served, name, open_file, put

SLOT = 2
HEADER = {
    "magic": range(0, 8),
    "version": range(8, 12),
    "tokens": range(12, 16),
    "slot": range(16, 24),
    "epoch": range(24, 32),
    "sequence": range(32, 40),
    "fingerprint": range(40, 72),
    "name": range(72, 88),
    "length": range(88, 96),
    "checksum of the payload": range(96, 104),
    "zeros behind it": range(104, 4088),
    "checksum of the header": range(4088, 4096),
}
LAYER = LAYOUT.layer_bytes[0]
PAYLOAD = {
    "first sector": range(0, 512),
    "a sector in the middle": range(4608, 5120),
    "first page": range(0, 4096),
    "second page": range(4096, 8192),
    "the end of a layer": range(LAYER - 1, LAYER),
    "the start of a layer": range(LAYER, LAYER + 1),
    "the last byte that counts": range(LAYOUT.block_bytes - 1, LAYOUT.block_bytes),
    "all of it": range(0, LAYOUT.slot_bytes),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed file with blocks 0 to 4, each in its slot; before them lay others there."""
    path = tmp_path / "store-0.kv"
    file = open_file(path)
    for number in range(5):
        put(file, number, name(100 + number))
    file.close()
    before = path.read_bytes()
    file = open_file(path)
    file.scan()
    for number in range(5):
        put(file, number, name(number))
    file.close()
    (tmp_path / "before").write_bytes(before)
    return path


def overwrite(path: Path, region: range, data: bytes, *, base: int) -> bytes:
    """Put ``data`` there; what was there before."""
    with path.open("r+b") as raw:
        raw.seek(base + region.start)
        was = raw.read(len(region))
        raw.seek(base + region.start)
        raw.write(data)
    return was


def names_found_and_served(path: Path) -> tuple[set[BlockName], set[BlockName]]:
    file = open_file(path)
    found = file.scan().entries
    served = {entry.name for entry in found if is_served(file, entry.slot, entry.name)}
    file.close()
    return {entry.name for entry in found}, served


OTHERS = {name(number) for number in range(5)} - {name(SLOT)}
BASE = FIRST_SLOT + SLOT * STRIDE


@pytest.mark.parametrize("region", HEADER.values(), ids=HEADER)
@pytest.mark.parametrize("how", ["flipped", "zeros", "from before"])
def test_a_slot_with_a_torn_header_is_not_found(path: Path, region: range, how: str) -> None:
    was = overwrite(path, region, bytes(len(region)), base=BASE)
    before = (path.parent / "before").read_bytes()[BASE + region.start :][: len(region)]
    torn = {"flipped": bytes(byte ^ 0xFF for byte in was), "zeros": bytes(len(region)), "from before": before}[how]
    overwrite(path, region, torn, base=BASE)
    found, served = names_found_and_served(path)
    assert served == (OTHERS if torn != was else OTHERS | {name(SLOT)})
    assert found == served, "a header that is not intact claims nothing"


@pytest.mark.parametrize("region", PAYLOAD.values(), ids=PAYLOAD)
@pytest.mark.parametrize("how", ["flipped", "zeros", "from before"])
def test_a_slot_with_a_torn_payload_is_found_but_never_served(path: Path, region: range, how: str) -> None:
    was = overwrite(path, region, bytes(len(region)), base=BASE + PAGE_BYTES)
    before = (path.parent / "before").read_bytes()[BASE + PAGE_BYTES + region.start :][: len(region)]
    torn = {"flipped": bytes(byte ^ 0xFF for byte in was), "zeros": bytes(len(region)), "from before": before}[how]
    overwrite(path, region, torn, base=BASE + PAGE_BYTES)
    found, served = names_found_and_served(path)
    assert served == OTHERS if torn != was else OTHERS | {name(SLOT)}
    assert found == OTHERS | {name(SLOT)}


def test_a_write_that_stopped_at_any_sector_serves_neither_block_or_one_whole(path: Path) -> None:
    """The disk took the first sectors of a write and lost the rest: what lies there is half new, half old."""
    new = path.read_bytes()
    old = (path.parent / "before").read_bytes()
    for cut in range(0, STRIDE + 1, 512):
        mixed = new[: BASE + cut] + old[BASE + cut : BASE + STRIDE] + new[BASE + STRIDE :]
        path.write_bytes(mixed)
        _, served = names_found_and_served(path)
        assert served - OTHERS <= {name(SLOT), name(100 + SLOT)}
        whole = {0: {name(100 + SLOT)}, STRIDE: {name(SLOT)}}.get(cut)
        assert whole is None or served - OTHERS == whole


def rewritten(path: Path, header: SlotHeader) -> None:
    """This header in the place of the slot's own, intact."""
    page = bytearray(PAGE_BYTES)
    encode_slot_header(header, memoryview(page))
    overwrite(path, range(PAGE_BYTES), bytes(page), base=BASE)


@pytest.mark.parametrize("field", ["slot", "epoch", "fingerprint", "length"])
def test_an_intact_header_that_is_not_of_this_slot_of_this_file_is_not_found(path: Path, field: str) -> None:
    header = decode_slot_header(path.read_bytes()[BASE : BASE + PAGE_BYTES])
    assert header is not None
    others = {"slot": SLOT + 5, "epoch": header.epoch + 1, "fingerprint": bytes(32), "length": header.length - 1}
    rewritten(path, replace(header, sequence=header.sequence + 9, **{field: others[field]}))  # type: ignore[arg-type]
    found, served = names_found_and_served(path)
    assert found == served == OTHERS


def test_an_intact_header_of_another_version_is_not_found(path: Path) -> None:
    page = bytearray(path.read_bytes()[BASE : BASE + PAGE_BYTES])
    page[8] += 1
    page[-8:] = xxhash.xxh3_64_intdigest(page[:-8]).to_bytes(8, "little")
    overwrite(path, range(PAGE_BYTES), bytes(page), base=BASE)
    found, served = names_found_and_served(path)
    assert found == served == OTHERS


def test_a_block_copied_to_another_slot_is_not_found_there(path: Path) -> None:
    data = path.read_bytes()
    target = FIRST_SLOT + 4 * STRIDE
    path.write_bytes(data[:target] + data[BASE : BASE + STRIDE] + data[target + STRIDE :])
    found, served = names_found_and_served(path)
    assert found == served == {name(0), name(1), name(2), name(3)}
