"""``moonpool plan``: what it finds is simulated again here, and so is one node fewer."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import moonpool
from loadtest import profiles, trace_file
from loadtest.plan.arithmetic import begin_at, impossible
from loadtest.plan.goal import Goal
from loadtest.plan.plan import plan
from loadtest.plan.search import frontier, smallest
from loadtest.plan.trials import Trials
from loadtest.request import Request
from loadtest.simulator.machine import Machine
from loadtest.traces import Row, conversation, requests
from tests.loadtest.build import machine, simulation, spec

GOAL = Goal(ttft_s=0.3, tbt_s=0.05, goodput=0.9)
DRAM = 400 * 64 * 1024


@pytest.fixture(autouse=True)
def _no_copy_of_the_published_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trace_file, "PUBLISHED", tmp_path / "none.jsonl")


def rows(number: int = 30, *, gap_ms: float = 20.0) -> list[Row]:
    """Prompts of 1,536 tokens of which the last third is new, 0.05 s of prefill: two or three nodes' worth."""
    return [Row(gap_ms * place, 1536, 40, (0, 1 + place % 3, 100 + place)) for place in range(number)]


def workload(rows: list[Row]) -> list[Request]:
    return requests(rows)


def busy_machine(**changes: object) -> Machine:
    """A step takes 5 ms and as much for each sequence, so a few streams keep one node busy."""
    slow = replace(machine().profile, step_s=(5e-3, 5e-3, 1e-8))
    return machine(profile=slow, **changes)


def trials(goal: Goal = GOAL) -> Trials:
    return Trials(workload(rows()), busy_machine(), goal, seed=0, block_tokens=64)


def goodput(prefill: int, decode: int, dram_bytes: int, goal: Goal = GOAL) -> float:
    """By a simulation of its own."""
    one = simulation(spec(machine=busy_machine(), prefill=prefill, decode=decode, dram_bytes=dram_bytes))
    records = one.run(workload(rows()))
    return sum(record.within(goal.ttft_s, goal.tbt_s) for record in records) / len(records)


# -- search ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 60), st.integers(-5, 80))
def test_the_smallest_that_keeps_is_found_from_any_guess(low: int, more: int, least: int, guess: int) -> None:
    asked: list[int] = []

    def keeps(each: int) -> bool:
        assert low <= each <= low + more
        asked.append(each)
        return each >= least

    assert smallest(low, low + more, guess, keeps) == (max(low, least) if least <= low + more else None)
    assert len(asked) == len(set(asked)), "nobody is asked twice"
    assert len(asked) <= 2 * (more + 1).bit_length() + 1


@given(st.lists(st.integers(1, 14), min_size=1, max_size=12), st.integers(2, 14), st.integers(1, 20), st.integers(1, 9))
def test_the_frontier_is_what_trying_everything_finds(steps: list[int], nodes: int, more: int, fewer: int) -> None:
    """steps: with so many prefill workers, how many decode workers are needed, less and less."""
    needed = sorted(steps, reverse=True)

    def keeps(prefill: int, decode: int) -> bool:
        assert prefill >= 1
        assert decode >= 1
        assert max(prefill, decode) < nodes
        return decode >= needed[min(prefill, len(needed)) - 1] and prefill > 1

    everybody = [(p, d) for p in range(1, nodes) for d in range(1, nodes - p + 1) if keeps(p, d)]
    best = [(p, d) for p, d in everybody if not any(q <= p and e <= d and (q, e) != (p, d) for q, e in everybody)]

    assert list(frontier(nodes, (more, fewer), keeps)) == sorted(best)


# -- the plan ---------------------------------------------------------------------------------------------------------


def test_what_is_recommended_keeps_the_goal_and_one_node_fewer_does_not() -> None:
    found = plan(trials(), nodes=10, guess=(1, 1), drams=[DRAM // 4, DRAM // 2, DRAM]).smallest

    assert found is not None
    assert found.prefill > 1, "the workload is too small to tell"
    assert found.decode > 1, "the workload is too small to tell"
    assert goodput(found.prefill, found.decode, found.dram_bytes) == pytest.approx(found.goodput)
    assert found.goodput >= GOAL.goodput
    for prefill in range(1, found.nodes - 1):
        assert goodput(prefill, found.nodes - 1 - prefill, DRAM) < GOAL.goodput


def test_dram_is_as_little_as_is_enough() -> None:
    """Prefixes that nobody remembers are computed again, and then two prefill nodes are too few."""
    drams = [2 * 64 * 1024 * each for each in (16, 24, 40, 60, 200)]

    found = plan(trials(), nodes=10, guess=(2, 4), drams=drams).smallest

    assert found is not None
    place = drams.index(found.dram_bytes)
    assert goodput(found.prefill, found.decode, drams[place]) >= GOAL.goodput
    assert all(goodput(found.prefill, found.decode, less) < GOAL.goodput for less in drams[max(0, place - 1) : place])


def test_a_cluster_that_misses_too_much_is_given_up_early() -> None:
    seen: list[int] = []
    tried = trials(replace(GOAL, ttft_s=0.2))
    tried.over = lambda record: seen.append(record.place)

    found = tried.verdict(1, 1, DRAM)

    assert found.given_up
    assert found.goodput < GOAL.goodput
    assert len(seen) < len(tried.workload)


def test_what_follows_from_other_clusters_is_not_simulated() -> None:
    tried = trials()
    assert tried.keeps(6, 6, DRAM)
    assert not tried.keeps(1, 1, DRAM)

    assert tried.keeps(7, 6, DRAM)
    assert not tried.keeps(1, 1, DRAM // 2)
    assert tried.simulations == 2


def test_a_goal_that_nobody_can_keep_is_told_by_arithmetic() -> None:
    prompts = rows()

    assert impossible(prompts, busy_machine(), GOAL) is None
    assert "a decode step takes 0.01 s" in str(impossible(prompts, busy_machine(), replace(GOAL, tbt_s=0.001)))
    assert "of the prompts take longer than 0.01 s" in str(
        impossible(prompts, busy_machine(), replace(GOAL, ttft_s=0.01))
    )


def test_the_search_begins_near_where_it_ends() -> None:
    profile = profiles.load("a800x8-llama3-70b")
    trace = conversation(Random(1), number=2000)

    prefill, decode = begin_at(trace, profile, Goal(30.0, 0.1, 0.9), speed=1.0)

    assert 4 <= prefill <= 8
    assert 1 <= decode <= 4
    assert begin_at(trace, profile, Goal(30.0, 0.1, 0.9), speed=2.0)[0] == pytest.approx(2 * prefill, abs=1)


# -- the command ------------------------------------------------------------------------------------------------------

FLAGS = ["plan", "--requests", "25", "--ttft-slo", "20", "--tbt-slo", "0.2", "--max-nodes", "6"]


def test_the_command_prints_the_frontier_and_how_to_look_at_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert moonpool.main(FLAGS) == 0

    out, err = capsys.readouterr()
    assert "TTFT 20 s and TBT 0.2 s for 90 % of requests on a800x8-llama3-70b" in out
    assert "tried " in err
    (line,) = [line for line in out.splitlines() if line.startswith("look at it: ")]
    words = line.removeprefix("look at it: moonpool ").split()
    capsys.readouterr()
    assert moonpool.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["goodput"] >= 0.9


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert moonpool.main([*FLAGS, "--dram", "200GB", "--dram", "100GB", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["smallest"] in found["frontier"]
    assert found["smallest"]["dram_bytes"] in (100 * 10**9, 200 * 10**9)
    assert found["simulations"] >= 2


def test_where_no_cluster_is_enough_it_says_what_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    assert moonpool.main([*FLAGS[:-1], "2", "--speed", "50", "--json"]) == 1

    out, err = capsys.readouterr()
    assert json.loads(out)["smallest"] is None
    assert "moonpool plan: no cluster of up to 2 nodes keeps TTFT 20 s and TBT 0.2 s for 90 % of requests." in err
    assert "The best that was tried, 1P+1D, keeps less than" in err
    assert "miss the TTFT (p99 " in err


def test_what_no_number_of_nodes_can_do_is_not_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert moonpool.main([*FLAGS, "--tbt-slo", "0.001"]) == 1
    assert "a decode step takes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--goodput", "1.5"], "'1.5' is no share: above 0, and at most 1"),
        (["--max-nodes", "1"], "a cluster has two nodes or more"),
        (["--requests", "0"], "a plan needs a request"),
        (["--dram", "1MB"], "a store of 1000000 bytes has no room for a block"),
    ],
)
def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit) as left:
        moonpool.main([*FLAGS, *flags])

    assert left.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_trace_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert moonpool.main([*FLAGS, "--trace", str(tmp_path / "no")]) == 1
    assert "moonpool plan: can't read" in capsys.readouterr().err


def test_the_same_seed_plans_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    outs = []
    for _ in range(2):
        moonpool.main([*FLAGS, "--requests", "15", "--json"])
        outs.append(capsys.readouterr().out)

    assert outs[0] == outs[1]
