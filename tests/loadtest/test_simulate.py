"""``moonpool simulate``, as a user calls it."""

import json
from pathlib import Path

import pytest

import moonpool
from loadtest import trace_file
from loadtest.offered import offered
from loadtest.settings import Offer
from loadtest.simulate import cluster
from loadtest.traces import requests

SMALL = ["simulate", "--prefill", "2", "--decode", "2", "--requests", "40", "--json"]


@pytest.fixture(autouse=True)
def _no_copy_of_the_published_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trace_file, "PUBLISHED", tmp_path / "none.jsonl")


def answer(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    assert moonpool.main([*SMALL, *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_it_prints_what_scripts_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--ttft-slo", "30", "--tbt-slo", "0.1")

    keys = ["requests", "completed", "rejected", "ttft_s", "tbt_s", "goodput", "hit_rate", "wall_s", "seed"]
    assert list(found) == keys
    assert (found["requests"], found["completed"], found["rejected"]) == (40, 40, 0)
    assert list(found["ttft_s"]) == list(found["tbt_s"]) == ["mean", "p50", "p90", "p99"]  # type: ignore[call-overload]
    assert list(found["hit_rate"]) == ["block", "token"]  # type: ignore[call-overload]


def test_a_trace_may_be_repeated_about_something_else_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    once, twice = answer(capsys), answer(capsys, "--repeat", "2", "--report-interval", "0.2")

    assert (once["requests"], twice["requests"], twice["completed"]) == (40, 80, 80)


@pytest.mark.parametrize("policy", ["kvcache-centric", "random"])
def test_the_same_seed_prints_the_same_but_for_wall_s(capsys: pytest.CaptureFixture[str], policy: str) -> None:
    first, second = (answer(capsys, "--policy", policy, "--seed", "7") for _ in range(2))

    for each in (first, second):
        assert isinstance(each.pop("wall_s"), float)
    assert json.dumps(first) == json.dumps(second)


def test_without_a_trace_it_makes_one_and_says_where_the_real_one_is(capsys: pytest.CaptureFixture[str]) -> None:
    moonpool.main(SMALL)

    assert "kvcache-ai/Mooncake" in capsys.readouterr().err


def test_a_file_is_replayed_and_each_request_recorded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = '{"timestamp": %d, "input_length": 1000, "output_length": 3, "hash_ids": [0, %d]}\n'
    trace, records = tmp_path / "trace.jsonl", tmp_path / "records.jsonl"
    trace.write_text("".join(line % (1000 * place, 1 + place) for place in range(3)))

    found = answer(capsys, "--trace", str(trace), "--records", str(records))

    told = [json.loads(each) for each in records.read_text().splitlines()]
    assert found["requests"] == len(told) == 3
    assert [each["asked_s"] for each in told] == [0.0, 1.0, 2.0]
    assert all(each["input_tokens"] == 1000 and each["ended_s"] is not None for each in told)


def test_a_bad_line_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0}\n')

    assert moonpool.main([*SMALL, "--trace", str(trace)]) == 1
    assert capsys.readouterr().err == f"moonpool simulate: {trace} line 1: input_length is missing\n"


def test_a_file_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert moonpool.main([*SMALL, "--trace", str(tmp_path / "no")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--decode", "0"], "a cluster needs a worker that decodes"),
        (["--speed", "0"], "'0' is no number above 0"),
        (["--prefill", "-1"], "'-1' is no number of things"),
        (["--profile", "b200"], "no profile 'b200'; there are a800x8-llama2-70b"),
        (["--dram", "much"], "'much' is no size"),
        (["--dram", "1MB"], "a store of 1000000 bytes has no room for a block of 167772160"),
    ],
)
def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit) as left:
        moonpool.main([*SMALL, *flags])

    assert left.value.code == 2
    assert sentence in capsys.readouterr().err


def test_of_no_requests_nothing_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--requests", "0")

    assert (found["requests"], found["completed"], found["goodput"]) == (0, 0, 0.0)


def test_hosts_that_fail_are_chosen_by_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--deaths", "3", "--slow-hosts", "1", "--lost-reports", "1", "--prefill", "3", "--decode", "3"]
    calm, *troubled = (answer(capsys, *each) for each in ([], flags, flags))

    for each in troubled:
        del each["wall_s"]
    assert troubled[0] == troubled[1]
    assert troubled[0]["ttft_s"] != calm["ttft_s"]


def test_requests_that_would_be_late_are_refused_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--admission", "predictive", "--ttft-slo", "1")

    assert isinstance(found["rejected"], int)
    assert found["rejected"] > 0
    assert found["requests"] == found["rejected"] + found["completed"]  # type: ignore[operator]


@pytest.mark.parametrize(("flag", "copies"), [("--replicate", True), ("--no-replicate", False)])
def test_hot_prefixes_are_copied_only_where_that_is_wanted(flag: str, copies: bool) -> None:
    mix = Offer(
        workload="shared-prefix",
        requests=300,
        rate_per_s=30.0,
        input_len=100,
        output_len=9,
        prefix_len=10_000,
        prefixes=3,
    )
    simulation = cluster(["--policy", "longest-prefix", flag], seed=0)
    simulation.run(offered(mix).requests)

    assert (simulation.snapshot().copies_ordered > 0) is copies


def test_a_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert moonpool.main(SMALL[:-1]) == 0
    assert "TTFT" in capsys.readouterr().out


def test_a_copy_of_the_published_trace_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_text('{"timestamp": 5, "input_length": 7, "output_length": 3, "hash_ids": [0]}\n')
    monkeypatch.setattr(trace_file, "PUBLISHED", copy)

    found = trace_file.read(trace_file.TraceFile(), seed=0)

    assert (len(requests(found.rows)), found.notes) == (1, ())
