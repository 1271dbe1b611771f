"""``moonpool reproduce``: the papers' experiments on the first requests of the built-in trace."""

import json
from pathlib import Path

import pytest

import moonpool
from loadtest import trace_file
from loadtest.reproduce.bench import Bench, Run, Table, good, mean_ttft_s
from loadtest.reproduce.main import EXPERIMENTS, markdown
from loadtest.simulator.simulation import Coupled, Spec
from loadtest.traces import conversation
from tests.loadtest.build import chance


@pytest.fixture(autouse=True)
def _no_copy_of_the_published_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trace_file, "PUBLISHED", tmp_path / "none.jsonl")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(conversation(chance(), number=60), seed=0)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_a_table(bench: Bench, name: str) -> None:
    table = EXPERIMENTS[name](bench)

    assert table.name == name
    assert len(table.rows) > 2
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.note.endswith(".")


def test_a_table_is_markdown() -> None:
    table = Table("x", "Title", ("a", "b"), ((1, None), ("c", 0.5)), "Note.")

    assert markdown(table) == "## Title\n\n| a | b |\n| --- | --- |\n| 1 | - |\n| c | 0.5 |\n\nNote.\n"


def test_equal_simulations_are_run_once(bench: Bench) -> None:
    run = Run(Spec(bench.machine, 2, 2), "random")

    assert bench.run(run) is bench.run(Run(Spec(bench.machine, 2, 2), "random"))


def test_decodes_of_coupled_nodes_wait_for_prefills_and_apart_they_do_not(bench: Bench) -> None:
    """The papers' reason to take prefill and decode apart."""
    apart = bench.run(Run(Spec(bench.machine, 8, 8)))
    coupled = bench.run(Run(Spec(bench.machine, 0, 0, 16, coupled=Coupled()), "least-loaded"))

    assert good(apart, ttft_s=30.0, tbt_s=0.1) > good(coupled, ttft_s=30.0, tbt_s=0.1) + 0.1


def test_without_a_prefix_cache_coupled_nodes_find_nothing(bench: Bench) -> None:
    run = Run(Spec(bench.machine, 0, 0, 2, coupled=Coupled(prefix_cache=False)), "least-loaded")

    assert not any(record.cached_tokens for record in bench.run(run))
    assert mean_ttft_s(bench.run(run)) > 0.0


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--only", "hit-rates", "--requests", "50", "--json"]

    assert moonpool.main(["reproduce", *flags]) == 0

    (table,) = json.loads(capsys.readouterr().out)
    assert table["name"] == "hit-rates"


def test_the_command_prints_tables_and_says_what_it_simulates(capsys: pytest.CaptureFixture[str]) -> None:
    assert moonpool.main(["reproduce", "--only", "policies", "--requests", "10"]) == 0

    out, err = capsys.readouterr()
    assert out.startswith("## Average TTFT by scheduling policy")
    assert "simulating 8P+8D, random" in err


def test_a_trace_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert moonpool.main(["reproduce", "--trace", str(tmp_path / "no")]) == 1
    assert "moonpool reproduce: can't read" in capsys.readouterr().err
