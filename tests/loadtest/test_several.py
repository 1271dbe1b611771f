"""Sweeps and comparisons: which runs are made, and what is said of them. Runs themselves are made up."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from random import Random
from shutil import rmtree
from typing import Any

import pytest
from rich.console import Console

from loadtest import compare, several, sweep
from loadtest.metrics import Facts, Slo, summary
from loadtest.record import Chunk, Outcome, Record
from loadtest.report import words
from loadtest.report.main import main as report
from loadtest.report.page import page
from loadtest.report.run import comparison_of, find, group_of, load
from loadtest.run import RunError
from loadtest.run_directory import RunDirectory, RunResult
from loadtest.search import Certainty, Search
from loadtest.settings import Endpoint, Offer, RunSettings, Simulated
from loadtest.several import SeveralError, made, resetting
from tests.loadtest.runs import WHEN

QUIET: dict[str, Any] = {"harness": {"warnings": []}}
SETTINGS = RunSettings(Offer(requests=40, seed=7), Endpoint(), (Slo("ttft", 1.0),))


@dataclass(slots=True)
class Made:
    """Runs of a system that is good up to ``border`` requests a second, and then isn't."""

    border: float = 6.0
    slower: float = 1.0
    stops_at: int | None = None
    fails_at: int | None = None
    error: type[BaseException] = RunError
    asked: list[RunSettings] = field(default_factory=list)

    def run(self, settings: RunSettings, directory: RunDirectory | None = None) -> RunResult:
        self.asked.append(settings)
        if len(self.asked) == self.fails_at:
            raise self.error("no answer from http://x")
        rate = settings.offer.rate_per_s
        chance = Random(f"{settings.offer.seed} {rate}")
        slow = self.slower if isinstance(settings.target, Endpoint) and settings.target.slo_ttft_ms else 1.0
        wait_s = (0.5 if rate <= self.border else 2.0) * slow * chance.uniform(0.98, 1.02)
        records = [answered(place, place / rate, wait_s) for place in range(settings.offer.requests or 0)]
        facts = Facts(
            WHEN,
            request_rate=rate,
            slos=settings.slos,
            interrupted=len(self.asked) == self.stops_at,
            settings=settings.described(),
            harness={"warnings": ["the harness was late"] if rate > 10.0 else []},
        )
        found = RunResult(records, summary(records, facts))
        if directory is not None:
            for record in records:
                directory.record(record)
            directory.summary(found.summary)
        return found


def answered(place: int, at_s: float, wait_s: float) -> Record:
    chunks = tuple(Chunk(wait_s + 0.02 * step, 1) for step in range(4))
    return Record(place, at_s, at_s, 64, 4, Outcome.FINISHED, at_s + chunks[-1].at_s, chunks, completion_tokens=4)


def search(**given: Any) -> Search:
    return Search(
        **{"target": 0.9, "lowest": 1.0, "highest": 64.0, "tolerance": 0.2, "repeats": 2, "most": 30, **given}
    )


def swept(system: Made, directory: Path | None = None, **given: Any) -> tuple[sweep.Sweep, dict[str, Any]]:
    found = sweep.sweep(SETTINGS, search(**given), directory, run=system.run)
    return found, sweep.described(found, SETTINGS, target=0.9)


def compared(system: Made, pairs: int, *, b: RunSettings, directory: Path | None = None) -> dict[str, Any]:
    sides = {"a": rated(SETTINGS), "b": rated(b)}
    return compare.described(compare.compare(sides, pairs, directory, run=system.run), sides)


def rated(settings: RunSettings) -> RunSettings:
    return replace(settings, offer=replace(settings.offer, rate_per_s=4.0))


def promised() -> RunSettings:
    return replace(SETTINGS, target=Endpoint(slo_ttft_ms=500.0))


def test_a_sweep_finds_the_border_and_says_how_sure_it_is() -> None:
    _, document = swept(Made(border=6.0))
    assert document["rate"] <= 6.0 < document["rate_above"] <= 1.2 * document["rate"]
    assert document["certainty"] == "clear"
    assert "requests a second keep the bounds for 100.0% of 80 requests" in document["sentence"]
    assert document["sentence"].endswith(sweep.SURE[Certainty.CLEAR])


def test_runs_at_one_rate_draw_other_requests_and_every_rate_draws_the_same() -> None:
    system = Made()
    found, _ = swept(system)
    seeds: dict[float, list[int]] = {}
    for asked in system.asked:
        seeds.setdefault(asked.offer.rate_per_s, []).append(asked.offer.seed)
    assert all(each == list(range(7, 7 + len(each))) for each in seeds.values())
    assert {rate: len(each) for rate, each in seeds.items()} == {
        tried.rate: len(tried.runs) for tried in found.search.tried
    }


def test_every_run_of_a_sweep_is_kept_and_drawn(tmp_path: Path) -> None:
    found, document = swept(Made(), tmp_path, tolerance=1.0)
    (tmp_path / "sweep.json").write_text(json.dumps(document))
    runs = [load(directory) for directory in find(tmp_path)]
    assert len(runs) == sum(len(tried.runs) for tried in found.search.tried)
    assert sorted({run.rate for run in runs if run.rate}) == [point["rate"] for point in document["points"]]
    assert runs[0].name == "rate-1-1"


@pytest.mark.slow
def test_the_report_of_a_sweep_shows_its_answer(tmp_path: Path) -> None:
    _, document = swept(Made(), tmp_path / "runs", tolerance=1.0)
    (tmp_path / "runs" / "sweep.json").write_text(json.dumps(document))
    assert report([str(tmp_path / "runs"), "--out", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert document["sentence"].replace("'", "&#x27;") in text
    assert "the border lies here" in text


def test_the_page_of_a_comparison_tells_what_differs(tmp_path: Path) -> None:
    document = compared(Made(slower=1.5), 6, b=promised(), directory=tmp_path)
    (tmp_path / "compare.json").write_text(json.dumps(document))
    runs = [load(directory, group=group_of(directory)) for directory in find(tmp_path)]
    assert [run.group for run in runs] == ["a"] * 6 + ["b"] * 6
    text = page("Two", runs, [], [[]] * len(runs), comparison=comparison_of(tmp_path))
    assert document["sentence"] in text
    assert "<td>higher</td>" in text
    assert '<th scope="row">slo_ttft_ms</th><td>–</td><td>500.0</td>' in text


def test_a_sweep_that_is_interrupted_tells_what_it_found() -> None:
    found, document = swept(Made(stops_at=3))
    assert found.interrupted
    assert [(point["rate"], len(point["attainments"])) for point in document["points"]] == [(1.0, 1), (2.0, 1)]
    assert document["certainty"] == "unfinished"


@pytest.mark.parametrize(
    ("error", "told"), [(RunError, (False, "no answer from http://x")), (KeyboardInterrupt, (True, ""))]
)
def test_what_was_measured_before_a_run_failed_is_told(error: type[BaseException], told: tuple[bool, str]) -> None:
    found, document = swept(Made(fails_at=4, error=error))
    assert (found.interrupted, found.failed) == told
    assert len(document["points"]) == 3
    document = compared(Made(fails_at=4, error=error), 6, b=promised())
    assert (document["interrupted"], document["failed"]) == told
    assert document["pairs"] == 1


def test_a_first_run_that_fails_is_told_alone() -> None:
    with pytest.raises(RunError, match="no answer"):
        swept(Made(fails_at=1))
    with pytest.raises(RunError, match="no answer"):
        compared(Made(fails_at=2), 6, b=promised())


def test_warnings_of_runs_are_told_with_their_rate() -> None:
    _, document = swept(Made(border=12.0), tolerance=1.0)
    assert document["warnings"] == ["at 16 requests a second the harness was late"]


def test_no_rate_that_holds_is_told() -> None:
    _, document = swept(Made(border=0.5))
    assert document["rate"] is None
    assert document["sentence"].startswith("1 requests a second don't, of which 90% was asked")


def test_a_trace_is_replayed_faster_for_a_higher_rate() -> None:
    settings = RunSettings(Offer(workload="trace", seed=3), slos=SETTINGS.slos)
    found = sweep.at(settings, 9.0, scale=3.0, seed=4)
    assert (found.offer.speed, found.offer.seed, found.offer.rate_per_s) == (3.0, 4, settings.offer.rate_per_s)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "a sweep needs --goodput"),
        (["--goodput", "ttft:500", "--request-rate", "3"], "a sweep sets the rate itself"),
        (["--goodput", "ttft:500", "--min-rate", "9", "--max-rate", "3"], "--min-rate 9 is above --max-rate 3"),
        (["--goodput", "ttft:500", "--attainment", "1.5"], "is no share above 0"),
        (["--goodput", "ttft:500", "--repeats", "0"], "at least 1"),
        (["--goodput", "ttft:500", "--max-concurrency", "4"], "a sweep needs open arrivals"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_told(
    flags: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        sweep.main(flags)
    assert exited.value.code == 2
    assert told in capsys.readouterr().err


def test_caches_are_emptied_before_each_run_of_a_server() -> None:
    emptied = resetting(SETTINGS, keep=False)
    assert isinstance(emptied.target, Endpoint)
    assert emptied.target.reset_cache
    assert resetting(SETTINGS, keep=True) is SETTINGS
    simulated = replace(SETTINGS, target=Simulated())
    assert resetting(simulated, keep=False) is simulated


def test_several_runs_want_a_directory_of_their_own(tmp_path: Path) -> None:
    assert made(tmp_path / "new", what="a sweep") == tmp_path / "new"
    (tmp_path / "new" / "x").touch()
    with pytest.raises(SeveralError, match="is not empty; a sweep wants a directory of its own"):
        made(tmp_path / "new", what="a sweep")


def test_without_a_directory_there_is_nothing_to_go_on_from() -> None:
    with pytest.raises(SeveralError, match="--resume goes on in --out DIR, and there is none"):
        made(None, what="a sweep", resume=True)


def test_a_sweep_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    swept(first := Made(stops_at=3), tmp_path)
    _, document = swept(second := Made(), tmp_path)
    _, whole = swept(Made())
    assert (document["rate"], document["points"]) == (whole["rate"], whole["points"])
    assert len(first.asked) + len(second.asked) == 1 + sum(len(point["attainments"]) for point in whole["points"])
    assert swept(third := Made(), tmp_path)[1]["points"] == whole["points"]
    assert not third.asked


def test_a_comparison_gets_more_pairs(tmp_path: Path) -> None:
    compared(first := Made(slower=1.5), 2, b=promised(), directory=tmp_path)
    document = compared(second := Made(slower=1.5), 6, b=promised(), directory=tmp_path)
    assert (len(first.asked), len(second.asked), document["pairs"]) == (4, 8, 6)
    whole = compared(Made(slower=1.5), 6, b=promised())
    assert document["measures"] == whole["measures"]


def test_runs_of_other_settings_are_not_gone_on_from(tmp_path: Path) -> None:
    compared(Made(), 1, b=promised(), directory=tmp_path)
    other = replace(promised(), target=Endpoint(slo_ttft_ms=400.0))
    with pytest.raises(SeveralError, match=r"b-1 is a run of other settings \(slo_ttft_ms 500.0, not 400.0\)"):
        compared(Made(), 1, b=other, directory=tmp_path)


def test_a_directory_that_vanishes_ends_it_with_a_sentence_and_keeps_whole_pairs(tmp_path: Path) -> None:
    class Deletes(Made):
        def run(self, settings: RunSettings, directory: RunDirectory | None = None) -> RunResult:
            assert directory is not None
            if len(self.asked) == 3:
                rmtree(tmp_path)
            found = Made.run(self, settings, directory)
            return replace(found, unkept=directory.unkept)

    document = compared(Deletes(), 6, b=promised(), directory=tmp_path)
    assert (document["pairs"], document["interrupted"]) == (1, False)
    assert document["failed"] == f"can't write to {tmp_path / 'a-2'}: No such file or directory"


def test_where_what_was_found_cannot_be_written_that_is_a_sentence(tmp_path: Path) -> None:
    told = several.write(tmp_path / "gone" / "sweep.json", {"rate": 1.0})
    assert told == f"can't write to {tmp_path / 'gone' / 'sweep.json'}: No such file or directory"
    assert several.write(None, {}) == several.write(tmp_path / "sweep.json", {}) == ""


def test_runs_are_interleaved_and_a_pair_is_offered_the_same() -> None:
    system = Made()
    compared(system, 3, b=promised())
    sides = ["b" if asked.target == promised().target else "a" for asked in system.asked]
    assert sides == ["a", "b", "b", "a", "a", "b"]
    assert [asked.offer.seed for asked in system.asked] == [7, 7, 8, 8, 9, 9]


def test_what_is_slower_in_every_pair_is_told() -> None:
    document = compared(Made(slower=1.5), 6, b=promised())
    rows = {row["name"]: row for row in document["measures"]}
    assert rows["median_ttft_ms"]["verdict"] == "higher"
    assert rows["median_ttft_ms"]["ratio"] == pytest.approx(1.5, rel=0.05)
    assert rows["median_tpot_ms"]["verdict"] == "within noise"
    assert "More than noise: TTFT median, ms" in document["sentence"]


def test_twice_the_same_is_within_noise_and_said_with_care() -> None:
    document = compared(Made(), 6, b=SETTINGS)
    assert {row["verdict"] for row in document["measures"]} == {"within noise"}
    assert document["sentence"].startswith("Nothing differs by more than noise. A difference may still be there")


def test_what_one_side_lacks_is_told_and_not_compared() -> None:
    whole, none = {"mean_ttft_ms": 1.0, "completed": 4}, {"mean_ttft_ms": None, "completed": 0}
    found = compare.Comparison([({**whole, **QUIET}, {**none, **QUIET})] * 6)
    document = compare.described(found, {"a": SETTINGS, "b": SETTINGS})
    assert document["without"] == {"TTFT mean, ms": "b has none in 6 of 6 runs"}
    assert [(row["name"], row["ratio"], row["verdict"]) for row in document["measures"]] == [
        ("completed", 0.0, "lower")
    ]


def test_more_than_nothing_is_json_and_a_line_of_a_table() -> None:
    found = compare.Comparison([({"request_goodput": 0.0, **QUIET}, {"request_goodput": 2.0, **QUIET})] * 6)
    document = compare.described(found, {"a": SETTINGS, "b": SETTINGS})
    assert json.loads(json.dumps(document, allow_nan=False))["measures"][0]["ratio"] == "inf"
    assert words.measure(document["measures"][0])[3:] == ("inf", "inf to inf", "higher")
    Console(file=StringIO()).print(compare.table(document))


def test_of_no_pair_and_of_one_the_sentence_is_right() -> None:
    assert compare.sentence([], 0) == "No pair of runs was whole, so there is nothing to compare."
    assert compare.sentence([], 1).startswith("1 pair is too few")


def test_few_pairs_prove_nothing() -> None:
    document = compared(Made(slower=2.0), 3, b=promised())
    assert {row["verdict"] for row in document["measures"]} == {"too few pairs to tell"}
    assert "too few to tell a difference from noise" in document["sentence"]


def test_a_comparison_that_is_interrupted_keeps_whole_pairs(tmp_path: Path) -> None:
    document = compared(Made(stops_at=4), 6, b=promised(), directory=tmp_path)
    assert (document["pairs"], document["interrupted"]) == (1, True)
    assert [path.name for path in find(tmp_path)] == ["a-1", "a-2", "b-1", "b-2"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "what differs?"),
        (["--url", "http://x"], "what differs?"),
        (["--url", "http://x", "--url", "http://y", "--url", "http://z"], "once, for both, or twice"),
        (["--a=--input-len 9", "--b="], "both have to be offered the same"),
        (["--a=--goodput ttft:9"], "--goodput has to be the same"),
        (["--a=--no-such-flag"], "compare: --a: unrecognized arguments"),
        (["--a=--seed 0", "--pairs", "0"], "--pairs is at least 1"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_told(
    flags: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        compare.main(flags)
    assert exited.value.code == 2
    assert told in capsys.readouterr().err


def test_two_urls_are_one_for_each_side() -> None:
    flags = ["--url", "http://x", "--url=http://y", "--input-len", "9", "--b=--slo-ttft-ms 500"]
    asked, urls = compare._asked(compare._parser(), flags)
    sides = compare._sides(flags, asked, urls)
    assert [side.target.url for side in sides.values() if isinstance(side.target, Endpoint)] == ["http://x", "http://y"]
    assert [side.offer.input_len for side in sides.values()] == [9, 9]
    assert isinstance(sides["b"].target, Endpoint)
    assert sides["b"].target.slo_ttft_ms == 500.0


def test_tables_fit_a_terminal_of_80_columns() -> None:
    _, document = swept(Made(border=30.0))
    tables = [sweep.table(document), compare.table(compared(Made(slower=1.5), 6, b=promised()))]
    for table in tables:
        written = Console(width=80, file=StringIO(), record=True)
        written.print(table)
        assert "…" not in written.export_text()
