"""``moonpool status`` against a small HTTP server: tables, JSON, and sentences where there is no status."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from services.status.main import _watch, main

STATUS = {
    "model": "m",
    "fingerprint": "ab" * 32,
    "handoffs": 7,
    "placements": {"handed over": 7, "inline, sooner": 5},
    "refused": 3,
    "role_changes": 2,
    "predictions": {
        "ttft": {"count": 12, "ratio": 1.25, "error": 0.3, "bound": 1.5},
        "tpot": {"count": 0, "ratio": None, "error": None, "bound": 1.0},
    },
    "workers": [
        {"id": "decode-0", "role": "decode", "pid": 12, "running": 1, "waiting": 2, "device_blocks_free": 3}
        | {"device_blocks_total": 9, "new_field": "x"}
    ],
    "stores": [{"id": "store-0", "pid": 13, "slots_total": 10, "slots_free": 8, "slots_writing": 1, "slots_sealed": 1}],
    "conductors": [{"id": "conductor-0", "pid": 14}],
}
TIERS = {
    "stores": [
        {
            "id": "store-0",
            "ssd": {"state": "on", "reason": "", "slots_total": 4096, "slots_held": 120, "pending": 3},
            "ssd_pending": 3,
            "hits": {"asked": 1000, "dram": 500, "ssd": 125, "peer": 0},
            "hit_rates": {"dram": 0.5, "ssd": 0.125, "peer": 0.0},
            "owners": [{"owner": "decode-7", "leases": 31, "writing": 2, "set_aside": True}],
        },
        {"id": "store-1", "ssd": {"state": "off", "reason": "disk full"}, "ssd_pending": 0, "owners": []},
        {"id": "store-2", "ssd": None, "ssd_pending": 0, "hit_rates": {"dram": None, "ssd": None, "peer": None}},
    ]
}


@contextmanager
def gateway(answer: Any, status: int = 200) -> Iterator[str]:
    """A server that answers everything with that; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_json_is_the_gateways_document_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with gateway(STATUS) as url:
        assert main(["--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS


def test_tables_name_everybody(capsys: pytest.CaptureFixture[str]) -> None:
    with gateway(STATUS) as url:
        assert main(["--url", url + "/"]) == 0
    out = capsys.readouterr().out
    for words in (
        "handoffs 7",
        "placements: 5 inline, sooner",
        "refused as too late: 3",
        "changes of role: 2",
        "TTFT: 1.25 times what was predicted, off by 30% (last 12)",
        "decode-0",
        "3 / 9",
        "store-0",
        "8 / 10",
        "conductor-0",
        "14",
    ):
        assert words in out
    assert "TPOT" not in out  # of which nothing is known yet


def test_names_are_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    worker = {"id": "prefill-10", "role": "prefill", "draining": True, "pid": 1234567, "store": "store-0"}
    with gateway({"workers": [worker | {"device_blocks_free": 1024, "device_blocks_total": 1024}]}) as url:
        assert main(["--url", url]) == 0
    assert "prefill-10" in capsys.readouterr().out


def test_tables_show_tiers_and_who_holds_leases(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with gateway(TIERS) as url:
        assert main(["--url", url]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    stores = {row[0]: row[1:] for row in rows if row and row[0].startswith("store-")}  # the last table that names it
    assert stores["store-0"] == ["120 / 4096", "3", "1000", "50.0%", "12.5%", "0.0%"]
    assert stores["store-1"][:2] == ["off", "0"]
    assert "store-1 is without its SSD: disk full" in out.splitlines()
    assert stores["store-2"] == ["no SSD", "0", "", "", "", ""]
    assert ["decode-7", "store-0", "31", "2", "broken"] in rows


def test_a_deployment_that_has_nothing_yet_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    with gateway({"model": None, "fingerprint": None, "handoffs": 0}) as url:
        assert main(["--url", url]) == 0
    assert "no model yet" in capsys.readouterr().out


def test_how_it_is_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    for change, state, lines in (
        ({}, "serving", []),
        ({"degraded": "No prefill worker lives."}, "degraded", ["No prefill worker lives."]),
        ({"not_serving": "No worker is ready yet."}, "not serving", ["No worker is ready yet."]),
        ({"gone": [{"id": "decode-1", "for_s": 12.3}]}, "serving", ["gone: decode-1 (12 s)"]),
    ):
        with gateway(STATUS | change) as url:
            assert main(["--url", url]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0].startswith(f"m  {state}  fingerprint abab")
        assert said[1 : 1 + len(lines)] == lines


def test_who_drains_and_a_store_without_workers_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    workers = [{"id": "d0", "role": "decode", "draining": True}, {"id": "d1", "role": "decode", "draining": False}]
    with gateway({"workers": workers, "stores": [{"id": "store-0", "slots_free": 0, "slots_total": 0}]}) as url:
        assert main(["--url", url]) == 0
    out = capsys.readouterr().out
    assert re.search(r"d0 +│ +decode, draining", out)
    assert re.search(r"d1 +│ +decode │", out)
    assert "no worker yet" in out


@pytest.mark.parametrize("as_json", [True, False])
def test_watching_goes_on_while_the_gateway_is_away(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    looks = 0

    def again() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            stack.close()
        else:
            raise KeyboardInterrupt

    with ExitStack() as stack, pytest.raises(KeyboardInterrupt):
        _watch(stack.enter_context(gateway(STATUS)), as_json=as_json, again=again)
    out = capsys.readouterr().out
    assert "no gateway answers at http://" in out
    if as_json:
        first, second = map(json.loads, out.splitlines())
        assert first == STATUS
        assert set(second) == {"error"}


def test_watching_whoever_never_answered_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with gateway(STATUS) as url:
        pass
    assert main(["--url", url, "--watch"]) == 1
    assert "no gateway answers" in capsys.readouterr().err


def test_nobody_there_is_a_sentence_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with gateway(STATUS) as url:
        pass
    assert main(["--url", url]) == 1
    assert capsys.readouterr().err.startswith(f"moonpool status: no gateway answers at {url}: ")


def test_what_is_no_address_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("127.0.0.1:8000", "ftp://gateway.example"):
        assert main(["--url", url]) == 1
        assert f"{url} is no gateway's address; like http://127.0.0.1:8000" in capsys.readouterr().err


def test_an_error_of_the_gateway_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    with gateway({"error": {"message": "no conductor answers"}}, status=503) as url:
        assert main(["--url", url, "--json"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.endswith("HTTP 503: no conductor answers\n")


def test_some_other_server_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with gateway(b"<html>") as url:
        assert main(["--url", url]) == 1
    assert "did not answer with a status" in capsys.readouterr().err


def test_the_address_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway(STATUS) as url:
        monkeypatch.setenv("MOONPOOL_URL", url)
        assert main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["handoffs"] == 7
