"""A block is copied and hashed in one pass: the same bytes and the same number as in two, by either way."""

import ctypes
import mmap
from collections.abc import Iterator

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from kvstore import sealing
from kvstore.native import load_copied
from kvstore.sealing import Runs, copy_sealed

BEHIND = 64
"""Bytes around source and target, which must stay as they are."""

WAYS = ("kernel", "portions")


@pytest.fixture(params=WAYS, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of copying: the kernel, where there is one, and portions."""
    if request.param == "kernel" and load_copied() is None:
        pytest.skip("no kernel was built, or this processor can't run it")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "portions":
            patch.setattr(sealing, "load_copied", lambda: None)
            patch.setattr(sealing, "PORTION_BYTES", 192)
        yield request.param


def stream(seed: int, size: int) -> bytes:
    """Bytes that look like chance."""
    words = (xxhash.xxh3_64_digest(number.to_bytes(8, "little"), seed=seed) for number in range(size // 8 + 1))
    return b"".join(words)[:size]


def sealed(blob: bytes, run_bytes: int, gap: int, count: int, *, shift: int = 0, skew: int = 0) -> tuple[int, bytes]:
    """Copy runs of ``blob``, ``gap`` bytes apart; source and target begin ``skew`` and ``shift`` past aligned ones.

    Checks that nothing beside the slot has changed.
    """
    total = run_bytes * count
    with mmap.mmap(-1, skew + len(blob)) as memory, mmap.mmap(-1, BEHIND + shift + total + BEHIND) as arena:
        memory[skew:] = blob
        arena[:] = b"\xee" * len(arena)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        with memoryview(arena) as view, view[BEHIND + shift : BEHIND + shift + total] as slot:
            checksum = copy_sealed(Runs(address + skew, run_bytes, run_bytes + gap, count), slot)
        begin, end = BEHIND + shift, BEHIND + shift + total
        assert set(arena[:begin]) == set(arena[end:]) == {0xEE}, "it wrote beside the slot"
        return checksum, arena[begin:end]


def expected(blob: bytes, run_bytes: int, gap: int, count: int) -> bytes:
    return b"".join(blob[run * (run_bytes + gap) :][:run_bytes] for run in range(count))


@given(
    stripes=st.integers(1, 70),
    tail=st.sampled_from([0, 0, 0, 1, 8, 63]),
    gap=st.sampled_from([0, 1, 64, 200]),
    count=st.integers(1, 6),
    shift=st.sampled_from([0, 0, 0, 1, 32]),
    skew=st.integers(0, 64),
    seed=st.integers(0, 2**32),
)
def test_any_block_arrives_as_it_was_with_the_checksum_of_its_bytes(
    way: str, stripes: int, tail: int, gap: int, count: int, shift: int, skew: int, seed: int
) -> None:
    run_bytes = 64 * stripes + tail
    blob = stream(seed, (run_bytes + gap) * count)
    whole = expected(blob, run_bytes, gap, count)
    assert sealed(blob, run_bytes, gap, count, shift=shift, skew=skew) == (xxhash.xxh3_64_intdigest(whole), whole)


@pytest.mark.parametrize("total", [*range(1, 260), 511, 512, 1023, 1024, 1025, 1088, 2047, 2048, 2049, 65_536, 1 << 20])
def test_a_block_of_any_length_has_the_checksum_that_the_package_gives(way: str, total: int) -> None:
    blob = stream(total, total)
    assert sealed(blob, total, 0, 1) == (xxhash.xxh3_64_intdigest(blob), blob)


def test_bytes_that_are_all_alike_have_their_checksum_too(way: str) -> None:
    for blob in (bytes(4096), b"\xff" * 4096, b"\x00\xff" * 2048):
        assert sealed(blob, 1024, 0, 4) == (xxhash.xxh3_64_intdigest(blob), blob)


def test_a_slot_of_another_length_is_a_bug(way: str) -> None:
    source = ctypes.create_string_buffer(512)
    with pytest.raises(AssertionError, match="do not fill a slot of 256"):
        copy_sealed(Runs(ctypes.addressof(source), 512, 512, 1), memoryview(bytearray(256)))
