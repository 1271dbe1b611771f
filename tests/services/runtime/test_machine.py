"""What a machine can spare."""

import os
from pathlib import Path

import pytest

from services.runtime.machine import GIB, spare_dram, spare_ssd, usable_cores


def test_a_containers_quota_bounds_the_cores(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert usable_cores(quota) == 1


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    unlimited = tmp_path / "cpu.max"
    unlimited.write_text("max 100000\n")
    assert usable_cores(unlimited) == usable_cores(tmp_path / "missing") >= 1


def test_an_arena_nobody_sized_leaves_most_of_the_place_free(tmp_path: Path) -> None:
    assert 2**20 <= spare_dram(tmp_path) <= 4 * 2**30
    assert spare_dram(tmp_path) % 2**20 == 0
    assert spare_dram(tmp_path, stores=4) <= spare_dram(tmp_path)


class _Disk:
    """What ``statvfs`` tells of a disk with this much room."""

    f_frsize = 4096

    def __init__(self, free: int) -> None:
        self.f_bavail = free // self.f_frsize


@pytest.mark.parametrize(
    ("free", "stores", "size"),
    [
        (100 * GIB, 1, 8 * GIB),
        (100 * GIB, 2, 8 * GIB),
        (40 * GIB, 2, 5 * GIB),
        (39 * GIB, 1, 8 * GIB),
        (31 * GIB, 1, 7 * GIB),
        (3 << 20, 1, 0),
        (0, 1, 0),
    ],
)
def test_ssd_files_that_nobody_sized_take_a_quarter_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, stores: int, size: int
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: _Disk(free))
    assert spare_ssd(tmp_path / "not" / "made", stores=stores) == size


def test_an_ssd_file_is_sized_the_same_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 68 << 20
    monkeypatch.setattr(os, "statvfs", lambda _: _Disk(free))
    first = spare_ssd(tmp_path)
    with (tmp_path / "store-0.kv").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, first)
    free -= first + (1 << 20)  # and something else came
    assert spare_ssd(tmp_path) == first == 16 << 20
