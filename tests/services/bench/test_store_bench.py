"""``moonpool bench store`` measures every row that it promises, and cleans up."""

import json
from pathlib import Path

import pytest

from services.bench.store import main

ROWS = [
    "put_1MiB",
    "acquire_1MiB",
    "put_16MiB",
    "acquire_16MiB",
    "acquire_256_p50",
    "acquire_256_p99",
    "release_256_p50",
    "call_p50",
    "acquire_256_awake_p50",
    "acquire_256_awake_p99",
    "release_256_awake_p50",
    "call_awake_p50",
    "evict",
    "ssd_write",
    "ssd_read",
    "restart_scan",
    "index_bytes_per_million",
    "restart_headers_2000",
    "restart_headers_2000_stall",
    "restart_headers_2000_bytes",
    "restart_index_2000",
    "restart_index_2000_stall",
    "restart_index_2000_bytes",
]


@pytest.mark.slow
def test_every_row_is_measured_and_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "arena").mkdir()
    where = [f"--data-dir={tmp_path / 'data'}", f"--arena-dir={tmp_path / 'arena'}"]
    assert main(["--quick", "--json", "--restart-blocks=2000", *where]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in document["rows"]] == ROWS
    assert all(row["value"] > 0 for row in document["rows"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_size_that_is_none_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--ssd", "many"])
    assert "a size is a number of bytes" in capsys.readouterr().err
