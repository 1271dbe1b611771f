"""The conductor's benchmark gives the rows that are promised, from a seed."""

from collections.abc import Iterator
from itertools import count

from scheduler.bench import Row, measure


def rows() -> list[Row]:
    ticks: Iterator[int] = count()
    sizes = iter((1_000, 3_000))
    return list(
        measure(
            workers=(4, 6),
            blocks=2_000,
            asks=120,
            seed=1,
            clock=lambda: float(next(ticks)),
            rss_bytes=lambda: next(sizes),
        )
    )


def test_each_number_of_workers_has_its_rows_and_the_index_its_own() -> None:
    names = [f"place_{what}_{workers}" for workers in (4, 6) for what in ("p50", "p99", "rate")]

    found = rows()
    assert [row.name for row in found] == [*names, "longest_256_few", "longest_256_all", "ingest", "memory"]
    assert next(row for row in found if row.name == "place_p50_4") == Row("place_p50_4", 1000.0, "ms")
    assert next(row for row in found if row.name == "memory") == Row("memory", 1.0, "bytes/block")
