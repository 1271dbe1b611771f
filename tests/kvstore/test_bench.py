"""The benchmark runs, and its rows are what tools read."""

import json

import pytest

from kvstore.bench import main


def test_rows_come_as_json_with_what_is_needed_to_compare_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"rows", "commit", "machine", "settings"}
    names = [row["name"] for row in told["rows"]]
    assert {"acquire_256_p50", "acquire_256_p99", "allocate_64_p50", "take_1000x8x100_p50"} <= set(names)
    assert len(set(names)) == len(names)
    assert all(row.keys() == {"name", "value", "unit", "limit", "ratio"} for row in told["rows"])
