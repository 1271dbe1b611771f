"""``moonpool reproduce``: the papers' experiments on the first requests of the built-in trace."""

import itertools
import json
import re
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

import moonpool
from loadtest import trace_file
from loadtest.reproduce.bench import Bench, Run, good, mean_ttft_s
from loadtest.reproduce.capacity import highest
from loadtest.reproduce.drawing import png, svg
from loadtest.reproduce.hit_rates import hit_rates
from loadtest.reproduce.kept import keeping
from loadtest.reproduce.layerwise import LAYERS, exposed_s
from loadtest.reproduce.local_vs_global import local_vs_global
from loadtest.reproduce.long_prompts import long_prompts
from loadtest.reproduce.main import EXPERIMENTS, main
from loadtest.reproduce.page import markdown
from loadtest.reproduce.policies import PAPER
from loadtest.reproduce.run import Made, make
from loadtest.reproduce.table import Chart, Panel, Series, Table
from loadtest.simulator.spec import Coupled, Spec
from loadtest.traces import Row, conversation
from scheduler.estimate import prefill_s
from tests.loadtest.build import chance


@pytest.fixture(autouse=True)
def _no_copy_of_the_published_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trace_file, "PUBLISHED", tmp_path / "none.jsonl")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(conversation(chance(), number=60), seed=0)


@pytest.fixture(scope="module")
def small() -> Bench:
    return Bench(conversation(chance(), number=25), seed=0)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_a_table(small: Bench, name: str) -> None:
    table = EXPERIMENTS[name](small)

    assert table.name == name
    assert len(table.rows) > 2
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.note.endswith(".")
    assert table.charts


def test_a_table_is_markdown() -> None:
    table = Table("x", "Title", ("a", "b"), ((1, None), ("c", 0.5)), "Note.")

    assert markdown(table) == "## Title\n\n| a | b |\n| --- | --- |\n| 1 | - |\n| c | 0.5 |\n\nNote.\n"


def test_a_page_has_its_charts_beside_it_and_says_how_it_was_made(bench: Bench, tmp_path: Path) -> None:
    flags = ["--only", "hit-rates", "--requests", "50", "--write", str(tmp_path / "page.md")]

    assert moonpool.main(["reproduce", *flags]) == 0

    page = (tmp_path / "page.md").read_text()
    assert "`moonpool reproduce --only hit-rates --requests 50 --write page.md`" in page
    assert "![Hit rate of one pool by eviction policy](page/hit-rates.svg)" in page
    assert (tmp_path / "page" / "hit-rates.svg").read_text().startswith("<?xml")


def test_a_page_that_cannot_be_written_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "page").write_text("a file where the plots would go")

    flags = ["--only", "hit-rates", "--requests", "50", "--write", str(tmp_path / "page.md")]
    assert moonpool.main(["reproduce", *flags]) == 1
    assert "moonpool reproduce: can't use" in capsys.readouterr().err


def test_whoever_stops_reading_is_not_told_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):  # which the command ends by, in silence
        main(["--only", "layerwise", "--requests", "10", "--jobs", "1"])


def test_the_same_chart_is_drawn_to_the_same_bytes(bench: Bench) -> None:
    (chart,) = hit_rates(bench).charts

    first, second = svg(chart), svg(chart)

    assert first == second
    assert b"capacity, blocks of 512 tokens" in first
    assert png(chart) == png(chart)


def test_bars_carry_their_values_and_logarithmic_axes_plain_numbers() -> None:
    series = (Series("ours", (0.0, 1.0), (0.25, 30.0)), Series("paper", (0.0, 1.0), (None, 7.0), paper=True))
    drawn = svg(Chart("x", "x", (Panel("", "", "s", series, bars=("a", "b"), log_y=True),))).decode()

    assert all(f">{text}</text>" in drawn for text in ("0.25", "30", "7", "0.5", "10"))


def test_what_was_simulated_once_is_read_again(bench: Bench, tmp_path: Path) -> None:
    run, asked = Run(Spec(bench.machine, 1, 1), sample_s=5.0, copies_s=5.0), []

    def maker(rows: list[Row], seed: int, run: Run) -> Made:
        asked.append(run)
        return make(rows, seed, run)

    first, second = (keeping(tmp_path, maker)(bench.rows, 0, run) for _ in range(2))
    keeping(tmp_path, maker)(bench.rows, 1, run)

    assert first == second
    assert len(asked) == 2, "another seed is another simulation"
    assert first.copies
    assert first.samples


@pytest.mark.slow
def test_several_jobs_come_to_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["reproduce", "--only", "bandwidth", "--requests", "20", "--json"]
    outs = []
    for jobs in ("1", "3"):
        assert moonpool.main([*flags, "--jobs", jobs]) == 0
        outs.append(capsys.readouterr().out)

    assert outs[0] == outs[1]


def test_the_highest_speed_is_found_by_halving() -> None:
    asked = []

    def keeps(speed: float) -> bool:
        asked.append(speed)
        return speed < 6.5

    assert highest(tuple(map(float, range(1, 17))), keeps) == 6.0
    assert len(asked) <= 5
    assert highest((1.0, 2.0), lambda speed: False) is None


def test_the_committed_page_has_every_experiment_and_its_pictures() -> None:
    """Written by ``moonpool reproduce --write docs/reproduction.md``."""
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "reproduction.md").read_text(encoding="utf-8")

    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert page.count("\n## ") == len(EXPERIMENTS)
    assert {(docs / picture).is_file() for picture in pictures} == {True}
    assert {f"reproduction/{path.name}" for path in (docs / "reproduction").iterdir()} == set(pictures)


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
    flags = ["--only", "hit-rates", "--requests", "50", "--json", "--jobs", "1"]

    assert moonpool.main(["reproduce", *flags]) == 0

    (table,) = json.loads(capsys.readouterr().out)
    assert table["name"] == "hit-rates"


def test_the_command_prints_tables_and_says_what_it_simulates(capsys: pytest.CaptureFixture[str]) -> None:
    assert moonpool.main(["reproduce", "--only", "policies", "--requests", "10", "--jobs", "1"]) == 0

    out, err = capsys.readouterr()
    assert out.startswith("## Average TTFT by scheduling policy")
    assert "simulating 8P+8D, random" in err


def test_a_trace_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert moonpool.main(["reproduce", "--trace", str(tmp_path / "no")]) == 1
    assert "moonpool reproduce: can't read" in capsys.readouterr().err


def test_of_a_layer_by_layer_hand_over_only_the_last_layer_is_exposed(bench: Bench) -> None:
    machine = bench.machine
    whole_s = 8192 * machine.kv_bytes / machine.link_bytes_per_s

    after, along = (exposed_s(machine, 8192, layerwise=each) for each in (False, True))

    assert after == pytest.approx(machine.link_latency_s + whole_s, rel=1e-3)
    assert along == pytest.approx(machine.link_latency_s + whole_s / LAYERS, rel=1e-3)


def test_on_a_slow_link_layers_wait_for_one_another(bench: Bench) -> None:
    """The link is busy from the first layer on: what is exposed is what it carries longer than the prefill takes."""
    slow = replace(bench.machine, link_bytes_per_s=1e9)
    whole_s, prefill = 8192 * slow.kv_bytes / 1e9, prefill_s(slow.profile, 8192)

    assert exposed_s(slow, 8192, layerwise=True) == pytest.approx(whole_s - prefill * (1 - 1 / LAYERS), rel=1e-2)


def test_copies_are_counted_on_prefill_hosts_alone(small: Bench) -> None:
    """Decode hosts hold what was pushed to them; that is no replica in the prefill pool."""
    copies = small.copies(Run(Spec(small.machine, 1, 3), copies_s=1.0))

    assert 0.0 < max(each.mean[0] for each in copies) <= 1.0


def test_one_cache_finds_no_less_than_ten(bench: Bench) -> None:
    for how, _, local, everybody, _ in local_vs_global(bench).rows[:2]:
        assert isinstance(local, float), how
        assert isinstance(everybody, float), how
        assert everybody >= local, how


def test_a_cached_prefix_saves_what_the_arithmetic_says(small: Bench) -> None:
    nothing, *_, most = long_prompts(small).rows

    assert nothing[1] == 0
    assert isinstance(most[4], float)
    assert isinstance(most[5], float)
    assert most[4] == pytest.approx(92, abs=2)
    assert most[5] < most[4], "lifting takes time, too"


@pytest.mark.slow
def test_policies_are_ordered_as_in_the_papers() -> None:
    """By mean TTFT, where the first five minutes of the built-in trace come half as fast again."""
    bench = Bench(conversation(chance(), number=1000), seed=0)
    spec = Spec(bench.machine, 8, 8)
    ours = [mean_ttft_s(bench.run(Run(spec, name, speed=1.5))) for name in PAPER]

    assert list(PAPER) == ["random", "least-loaded", "local-cache", "kvcache-centric"]
    assert all(better < 0.8 * worse for worse, better in itertools.pairwise(ours)), ours
