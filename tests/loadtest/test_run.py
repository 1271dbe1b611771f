"""``moonpool loadtest run``, as its users meet it: flags, a server on the loopback, files, sentences."""

import asyncio
import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import moonpool
from loadtest import flags
from loadtest.arguments import Parser
from loadtest.mock_server import MockServer, Script, steady
from loadtest.record import Outcome, Record, to_line
from loadtest.run_directory import read
from loadtest.settings import Endpoint, Offer, RunSettings, Simulated
from loadtest.workload.ramps import Ramp, Strategy

SMALL = ("--num-prompts", "6", "--input-len", "20", "--output-len", "3")
MAIN = threading.main_thread().ident or 0
CLUSTER = ("--simulate", "--prefill", "1", "--decode", "1", "--profile", "cpu-smollm2", "--block-tokens", "64")


@contextmanager
def served(script: Script) -> Iterator[str]:
    """Its URL; it has a thread and a loop of its own, as the command has its own."""
    ready, url, stop = threading.Event(), "", asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        nonlocal url
        runner = web.AppRunner(
            MockServer(script).app(), access_log=None, shutdown_timeout=0.0, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="mock server")
    thread.start()
    try:
        assert ready.wait(10.0)
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def run(*words: str) -> int:
    return moonpool.main(["loadtest", "run", *words])


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def told(*words: str) -> RunSettings:
    parser = Parser(prog="x", allow_abbrev=False)
    flags.add_all(parser)
    return flags.settings(parser, flags.parse(parser, words))


def test_a_run_is_kept_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(steady(0.0, 0.0)) as url:
        assert run("--url", url, *SMALL, "--json", "--out", str(tmp_path), "--goodput", "ttft:60000") == 0

    summary, kept = printed(capsys), read(tmp_path)
    assert (summary["num_prompts"], summary["completed"], summary["slo_attainment"]) == (6, 6, 1.0)
    assert (summary["total_input_tokens"], summary["total_output_tokens"]) == (120, 18)
    assert (summary["model_id"], summary["backend"]) == ("mock", "openai")
    assert summary["settings"]["input_len"] == 20
    assert kept.summary == summary
    assert len(kept.records) == 6
    assert kept.pools == []


def test_or_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    with served(steady(0.0, 0.0)) as url:
        assert run("--url", url, *SMALL, "--endpoint", "chat") == 0

    shown = capsys.readouterr().out
    assert "6 of 6 requests" in shown
    assert all(words in shown for words in ("TTFT, ms", "TPOT, ms", "ITL, ms", "E2EL, ms"))


def test_a_run_that_is_there_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "records.jsonl").write_text("")

    assert run(*SMALL, "--out", str(tmp_path)) == 1
    assert "has a run already" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--url", "http://127.0.0.1:9", *SMALL) == 1
    assert "run: no answer from http://127.0.0.1:9/v1/models: Connection refused" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def script(number: int, body: dict[str, Any]) -> Any:
        if number == 5:
            signal.pthread_kill(MAIN, signal.SIGINT)
        return steady(0.0 if number < 5 else 100.0, 0.0)(number, body)

    with served(script) as url:
        assert run("--url", url, *SMALL, "--max-concurrency", "1", "--json", "--out", str(tmp_path)) == 130

    summary = printed(capsys)
    assert (summary["interrupted"], summary["completed"], summary["cancelled"]) == (True, 5, 1)
    assert [record.outcome.value for record in read(tmp_path).records] == ["finished"] * 5 + ["cancelled"]


def test_a_trace_whose_scaled_blocks_fill_none_of_the_simulators_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ({"timestamp": 0, "input_length": 1024, "output_length": 4, "hash_ids": [1, 2]} for _ in range(2))
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trace = ("--workload", "trace", "--trace", str(tmp_path / "trace.jsonl"), "--json")

    assert run(*CLUSTER, *trace, "--length-scale", "0.1") == 0
    assert "blocks 51 tokens, no multiple of the server's 64" in capsys.readouterr().err
    assert run(*CLUSTER, *trace, "--length-scale", "0.125") == 0
    assert capsys.readouterr().err == ""


def test_the_simulator_gives_the_same_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(steady(0.0, 0.0)) as url:
        assert run("--url", url, *SMALL, "--json", "--goodput", "ttft:5000") == 0
    live = printed(capsys)
    assert run(*CLUSTER, *SMALL, "--json", "--goodput", "ttft:5000", "--out", str(tmp_path)) == 0
    simulated = printed(capsys)

    assert simulated.keys() == live.keys()
    assert simulated["completed"] == 6
    assert (simulated["total_input_tokens"], simulated["total_output_tokens"]) == (120, 18)
    assert simulated["mean_ttft_ms"] > 0.0
    assert simulated["backend"] == "simulator"
    kept = read(tmp_path)
    assert {sample.role for sample in kept.pools} == {"prefill", "decode"}
    assert all(record.ttft_s is not None and len(record.chunks) == 3 for record in kept.records)


def test_who_leaves_leaves_the_simulator_where_it_leaves_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same requests after the same tokens; a record has all that a server's has, but for what only HTTP knows."""
    words = (*SMALL[:4], "--output-len", "9", "--cancel-share", "0.5", "--seed", "3", "--goodput", "ttft:60000")
    with served(steady(0.0, 0.05)) as url:
        assert run("--url", url, *words, "--json", "--out", str(tmp_path / "live")) == 0
    live = printed(capsys)
    assert run(*CLUSTER, *words, "--json", "--out", str(tmp_path / "simulated")) == 0
    simulated = printed(capsys)

    counts = ("num_prompts", "completed", "failed", "cancelled", "slo_attainment", "refusals_by_cause")
    assert [simulated[name] for name in counts] == [live[name] for name in counts]
    assert 0 < simulated["cancelled"] < 6
    of_live, of_simulated = (_left(read(tmp_path / name).records) for name in ("live", "simulated"))
    assert len(of_live) == live["cancelled"]
    for place, record in of_live.items():
        same = of_simulated.pop(place)
        assert (len(same.chunks), same.cause, same.finish_reason) == (len(record.chunks), "left midway", None)
        assert json.loads(to_line(record)).keys() - {"status"} <= json.loads(to_line(same)).keys()
    assert not of_simulated


def _left(records: Sequence[Record]) -> dict[int, Record]:
    return {record.place: record for record in records if record.outcome is Outcome.CANCELLED}


def test_the_simulator_refuses_by_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--num-prompts", "40", "--input-len", "1500", "--output-len", "3", "--request-rate", "40")
    promise = ("--admission", "early", "--ttft-slo", "1", "--tbt-slo", "1")
    assert run(*CLUSTER, *words, *promise, "--json", "--goodput", "ttft:1000") == 0
    found = printed(capsys)

    assert found["refused"] > 0
    assert set(found["refusals_by_cause"]) == {"slo_unattainable"}
    assert found["slo_attainment"] < 1.0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--length", "2"), "--length says nothing of a cluster"),
        (("--decode", "0"), "a cluster needs a worker that decodes"),
    ],
)
def test_what_the_simulator_cannot_do_is_said(
    words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*CLUSTER, *SMALL, *words) == 1
    assert sentence in capsys.readouterr().err


def test_a_trace_that_is_none_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace.jsonl").write_text("{}\n")

    assert run("--workload", "trace", "--trace", str(tmp_path / "trace.jsonl")) == 1
    assert "line 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--goodput", "itl:5"), "is no bound"),
        (("--burstiness", "0"), "no number above 0"),
        (("--cancel-share", "1.5"), "is no share, from 0 to 1"),
        (("--ramp-up-strategy", "linear"), "a ramp needs --ramp-up-strategy, --ramp-up-start-rps and"),
        (("--header", "x"), "is no NAME:VALUE"),
        (("--extra-body", "[]"), "is no JSON object"),
        (("--extra-body", "{"), "is not JSON"),
        (("--trace", "x"), "--trace needs --workload trace"),
        (("--input-len", "0"), "at least 1"),
        (("--workload", "other"), "invalid choice"),
        (("--prefill", "2"), "unrecognized arguments: --prefill 2"),
        (("--num-prompts", "0"), "argument --num-prompts: at least 1"),
        (("--url", "nonsense:xx"), "--url nonsense:xx is no server's address"),
        (("--url", "ftp://x"), "--url ftp://x is no server's address"),
        (("--workload", "trace", "--request-rate", "3"), "a trace has times of its own, so --request-rate says noth"),
        (("--workload", "trace", "--burstiness", "3"), "so --burstiness says nothing: --speed replays it faster"),
    ],
)
def test_mistakes_in_flags_are_sentences(
    words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*words)

    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_tokenizer_that_is_none_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with served(steady(0.0, 0.0)) as url:
        assert run("--url", url, *SMALL, "--tokenizer", "/nowhere") == 1
    assert "run: no tokenizer at /nowhere: " in capsys.readouterr().err


def test_flags_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOONPOOL_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    assert told() == RunSettings(Offer(), Endpoint(key="secret"))
    found = told(
        "--url", "host:1/v1/", "--request-rate", "2.5", "--header", "a: b", "--max-concurrency", "4",
        "--goodput", "ttft:500", "tpot:50", "--slo-ttft-ms", "300",
    )  # fmt: skip
    assert isinstance(found.target, Endpoint)
    assert (found.target.url, found.target.headers, found.target.slo_ttft_ms) == ("http://host:1", (("a", "b"),), 300.0)
    assert (found.offer.rate_per_s, found.offer.max_concurrency) == (2.5, 4)
    assert [str(slo) for slo in found.slos] == ["ttft:500", "tpot:50"]
    ramp = told("--ramp-up-strategy", "linear", "--ramp-up-start-rps", "1", "--ramp-up-end-rps", "2").offer.ramp
    assert ramp == Ramp(Strategy.LINEAR, 1.0, 2.0)
    assert told("--simulate", "--prefill", "3").target == Simulated(("--prefill", "3"))


def test_without_a_command_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert moonpool.main(["loadtest"]) == 2
    assert "one of run" in capsys.readouterr().err
    assert moonpool.main(["loadtest", "--help"]) == 0
    assert "moonpool loadtest COMMAND" in capsys.readouterr().out
