"""What a machine can spare."""

from pathlib import Path

from services.runtime.machine import spare_dram, usable_cores


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
