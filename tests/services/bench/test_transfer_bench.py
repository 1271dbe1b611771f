"""``moonpool bench transfer`` measures every row that it promises, and cleans up."""

import json
from pathlib import Path

import pytest

from services.bench.transfer import certificates, main

ROWS = [
    "push",
    "fetch",
    "push_tls",
    "fetch_tls",
    "push_by_layer_48KiB",
    "push_by_layer_4KiB",
    "layerwise_hidden_fast",
    "exposed_by_layer_fast",
    "exposed_at_end_fast",
]


@pytest.mark.slow
def test_every_row_is_measured_and_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--json", f"--arena-dir={tmp_path}"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in document["rows"]] == ROWS
    assert all(row["value"] > 0 for row in document["rows"] if row["name"] != "layerwise_hidden_fast")
    assert list(tmp_path.iterdir()) == []


def test_without_trustme_there_are_no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert certificates(tmp_path) is None
