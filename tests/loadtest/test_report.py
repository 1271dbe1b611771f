"""The report: one page that asks nobody for anything, and plots that say what the records say."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from math import nan
from pathlib import Path
from random import Random

import numpy as np
import pytest

from loadtest.record import Chunk, Outcome, Record
from loadtest.report.latency import latencies
from loadtest.report.main import main
from loadtest.report.page import page, plots
from loadtest.report.plot import drawing, png, svg
from loadtest.report.run import Run, RunError, find, gather, load, names
from loadtest.report.thinning import cumulative, edges, in_flight, kept, median_by_bin
from loadtest.report.words import counts, date, settings
from tests.loadtest.runs import offered, write

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "br", "hr", "img", "link", "input"}
DRAWN = {"path", "use", "text"}


class Parsed(HTMLParser):
    """What a page names, and its plots: (title, elements drawn) of each svg."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.named: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.described: list[str] = []
        self.styles = ""
        self.text = ""
        self.svgs: list[tuple[str, int]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self._open, f"<{tag}/> closes itself only within svg"
        self._seen(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "style":
            self.styles += data
        elif inside == "title" and "svg" in self._open:
            self.svgs[-1] = (data, self.svgs[-1][1])
        else:
            self.text += data

    def _seen(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "svg":
            self.svgs.append(("", 0))
        elif tag in DRAWN and "svg" in self._open:
            self.svgs[-1] = (self.svgs[-1][0], self.svgs[-1][1] + 1)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.named.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            elif name.startswith("aria-") and name.endswith("by"):
                self.described.append(value or "")
            elif name == "style":
                self.styles += f"{value};"


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [gather(f"at {rate:g}", offered(120, rate=rate, seed=int(rate))) for rate in (4.0, 12.0)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs at different rates, and the page about them."""
    directory = tmp_path_factory.mktemp("sweep")
    for rate in (4.0, 12.0):
        write(directory / "runs" / f"rate-{rate:g}", list(offered(80, rate=rate, seed=int(rate))), rate=rate)
    assert main([str(directory / "runs"), "--out", str(directory / "report.html"), "--slowest", "5"]) == 0
    return directory


@pytest.fixture(scope="module")
def parsed(swept: Path) -> Parsed:
    return Parsed((swept / "report.html").read_text(encoding="utf-8"))


def test_the_page_names_nothing_outside_of_itself(parsed: Parsed) -> None:
    assert all(name.startswith("#") for name in parsed.named)
    assert all(name.removeprefix("#") in parsed.ids for name in parsed.named)
    assert "@import" not in parsed.styles
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", parsed.styles))
    assert not parsed.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}


def test_the_page_forbids_the_browser_to_ask_anybody(swept: Path) -> None:
    text = (swept / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert "http:" not in text.replace("http://127.0.0.1:8000", "")  # the server's address, among the settings
    assert "https:" not in text


def test_every_plot_is_there_titled_and_drawn(parsed: Parsed) -> None:
    titles = [title for title, _ in parsed.svgs]
    together = ["Goodput against rate", "Share within the bounds, against rate", "Time to first token (TTFT)"]
    together += [
        "Time per output token after the first (TPOT)",
        "Gaps between tokens (ITL)",
        "Until the last token (E2EL)",
    ]
    each = ["{} over time", "{}: its slowest requests", "{}: predicted against actual TTFT"]
    expected = [title.format(f"rate-{rate}") for rate in (4, 12) for title in each]
    assert titles == together + expected
    assert all(drawn > 20 for _, drawn in parsed.svgs)


def test_ids_are_unique_and_descriptions_are_there(parsed: Parsed) -> None:
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.described
    assert all(name in parsed.ids for name in parsed.described)


def test_refusals_failures_settings_and_warnings_are_told(parsed: Parsed) -> None:
    for told in (
        "slo_unattainable",
        "and 1 s was promised",
        "connection reset",
        "<script>alert('&')</script>",
        "workload",
        "The harness was late: p99 lag 30 ms.",
        "within TTFT of 1000 ms",
        "share of input tokens found cached",
        "TTFT, time to first token",
    ):
        assert told in parsed.text


def test_the_same_runs_give_the_same_bytes(runs: list[Run]) -> None:
    def drawn() -> tuple[str, bytes]:
        with drawing():
            plot = next(latencies(runs))
            return svg(plot), png(plot)

    assert drawn() == drawn()


@pytest.mark.slow
def test_plots_are_written_as_png_too(swept: Path) -> None:
    given = [str(swept / "runs" / "rate-4"), "--out", str(swept / "one.html"), "--png", str(swept / "png")]
    assert main(given) == 0
    names = {path.name for path in (swept / "png").iterdir()}
    measures = {f"{name}.png" for name in ("ttft", "tpot", "itl", "e2el")}
    assert names == measures | {"timeline-1.png", "slowest-1.png", "predicted-1.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (swept / "png").iterdir())


def test_nothing_is_overwritten_in_silence(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(swept / "runs"), "--out", str(swept / "report.html")]
    with pytest.raises(SystemExit) as exited:
        main(given)
    assert exited.value.code == 2
    assert "exists; --overwrite replaces it" in capsys.readouterr().err


def test_no_run_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "x.html")]) == 1
    assert "has no records.jsonl, nor has a directory in it" in capsys.readouterr().err
    with pytest.raises(RunError, match="is no directory"):
        find(tmp_path / "nowhere")


def test_records_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="line 1: no record"):
        load(tmp_path)


def test_a_run_without_a_summary_is_told(tmp_path: Path) -> None:
    """As a harness leaves it that was killed."""
    (write(tmp_path / "killed", list(offered(30)), rate=8.0, pools=False) / "summary.json").unlink()
    run = load(tmp_path / "killed")
    assert len(run.columns) == 30
    assert "There is no summary" in Parsed(page("Killed", [run], [], [[]])).text


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED, Outcome.CANCELLED])
def test_a_run_in_which_nothing_finished_is_drawn(outcome: Outcome) -> None:
    lost = gather("lost", [Record(place, place, place, 8, 8, outcome, place + 0.5) for place in range(5)])
    with drawing():
        together, each = plots([lost])
        Parsed(page("Lost", [lost], together, each))
    assert [plot.name for plot in [*together, *each[0]]] == ["timeline-1"]


def test_the_median_over_time_of_few_requests_is_one_line() -> None:
    few = [Record(place, 3.0 * place, 3.0 * place, 8, 8, Outcome.FINISHED, 3.0 * place + 1, (Chunk(0.5, 1),))
           for place in range(12)]  # fmt: skip
    with drawing():
        _, ((over_time, *_),) = plots([gather("few", few)])
        (line,) = [line for line in over_time.figure.axes[0].lines if line.get_label() == "median"]
        heights = np.asarray(line.get_ydata()).tolist()
    assert 1 < len(heights) <= 4
    assert heights == [0.5] * len(heights)


def test_a_run_of_no_request_is_drawn() -> None:
    with drawing():
        together, each = plots([gather("empty", [])])
        Parsed(page("Empty", [gather("empty", [])], together, each))


def test_colours_are_the_pages_so_that_it_may_be_dark(runs: list[Run]) -> None:
    with drawing():
        text = svg(next(latencies(runs)))
    assert "var(--blue)" in text
    assert not re.search(r"#[0-9a-f]{6}\b(?!\w|-)", text.replace("#ttft-", ""))


def test_many_runs_lie_over_each_other() -> None:
    many = [gather(str(place), offered(40, seed=place)) for place in range(12)]
    with drawing():
        assert png(next(latencies(many))).startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_report_of_a_hundred_thousand_requests_stays_small() -> None:
    chance = Random(1)
    big = gather("big", (few_tokens(chance, place) for place in range(100_000)))
    assert len(big.gaps_s) == 200_000
    with drawing():
        together, each = plots([big])
        assert len(page("Big", [big], together, each)) < 1_000_000


def few_tokens(chance: Random, place: int) -> Record:
    first_s = chance.lognormvariate(-1.0, 1.0)
    chunks = tuple(Chunk(first_s + 0.02 * gap, 1) for gap in range(3))
    predicted_s = first_s * chance.lognormvariate(0.0, 0.2)
    return Record(
        place, 0.01 * place, 0.01 * place, 512, 3, Outcome.FINISHED, 9.0, chunks, predicted_ttft_s=predicted_s
    )


def test_latencies_are_of_finished_requests_and_shares_of_offered_ones() -> None:
    finished = Record(0, 0.0, 0.0, 8, 3, Outcome.FINISHED, 1.0, (Chunk(0.25, 1), Chunk(0.5, 1), Chunk(1.0, 1)))
    broken = Record(1, 0.0, 0.5, 8, 3, Outcome.FAILED, 2.0, (Chunk(0.5, 1), Chunk(0.75, 1)), cause="connection reset")
    run = gather("both", [broken, finished])
    np.testing.assert_allclose(run.columns.ttft_s, [0.25, nan])
    np.testing.assert_allclose(run.columns.first_s, [0.25, 1.0])
    np.testing.assert_allclose(run.columns.tpot_s, [0.375, nan])
    np.testing.assert_allclose(run.gaps_s, [0.25, 0.5])
    assert [(cause.cause, cause.number) for cause in run.causes] == [("connection reset", 1)]
    assert run.slowest == (finished,)


def test_the_slowest_are_kept_longest_first() -> None:
    run = gather("some", offered(200), slowest=5)
    longest = sorted(run.columns.e2el_s[~np.isnan(run.columns.e2el_s)])[-5:]
    assert [record.chunks[-1].at_s for record in run.slowest] == longest[::-1]


def test_runs_are_found_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    for rate in (4.0, 8.0, 12.0):
        write(tmp_path / f"rate-{rate:g}", list(offered(3)), rate=rate, pools=False)
    assert [path.name for path in find(tmp_path)] == ["rate-4", "rate-8", "rate-12"]
    assert names([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ["a/run", "b/run"]


def test_what_no_table_tells_is_among_the_settings(tmp_path: Path) -> None:
    run = load(write(tmp_path / "x", list(offered(9)), rate=8.0))
    told = {line[0]: line[1] for line in settings(run)}
    assert told["workload"] == "random"
    assert told["model_id"] == "toy"
    assert not any(key.startswith(("mean_", "p99_", "request_")) for key in told)
    assert {line[0]: line[1] for line in counts([run])}["requests offered"] == "9"


def test_a_distribution_keeps_its_ends_and_its_tail() -> None:
    values = np.random.default_rng(0).lognormal(size=50_000)
    at, share = cumulative(values, 100_000, points=200)
    assert len(at) <= 400
    assert (at[0], at[-1]) == (values.min(), values.max())
    assert share[-1] == 0.5
    assert (np.diff(at) >= 0).all()
    for value, of_all in zip(at, share, strict=True):
        assert (values <= value).sum() == round(of_all * 100_000)


def test_few_values_are_all_drawn() -> None:
    at, share = cumulative(np.asarray([3.0, nan, 1.0]), 4)
    assert (at.tolist(), share.tolist()) == ([1.0, 3.0], [0.25, 0.5])
    assert cumulative(np.asarray([nan]), 1)[0].size == 0


def test_thinned_dots_keep_every_outlier() -> None:
    values = np.ones(100_000)
    values[[17, 50_000, 99_999]] = 9.0
    places = kept(values, points=300)
    assert len(places) <= 300
    assert {17, 50_000, 99_999} <= set(places.tolist())
    assert kept(np.asarray([nan, 2.0]), points=300).tolist() == [1]


@pytest.mark.parametrize(("span", "width"), [(0.0, 0.001), (0.5, 0.005), (60.0, 0.5), (3_600.0, 50.0)])
def test_time_is_cut_into_round_bins(span: float, width: float) -> None:
    at = edges(span)
    assert at[1] - at[0] == pytest.approx(width)
    assert at[-1] >= span
    assert len(at) <= 121


def test_medians_are_of_what_falls_between_two_edges() -> None:
    times, values = np.asarray([0.0, 0.5, 0.9, 2.0, 2.5]), np.asarray([1.0, 5.0, 2.0, nan, 7.0])
    np.testing.assert_allclose(median_by_bin(times, values, np.asarray([0.0, 1.0, 2.0, 3.0])), [2.0, nan, 7.0])


def test_who_has_begun_and_not_ended_is_in_flight() -> None:
    began, ended = np.asarray([0.0, 1.0, nan]), np.asarray([2.0, 3.0, 9.0])
    assert in_flight(began, ended, np.asarray([0.5, 1.5, 2.5, 3.5])).tolist() == [1.0, 2.0, 1.0, 0.0]


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "profile"
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_shows_every_plot_and_asks_the_network_for_nothing(swept: Path, profile: Path) -> None:
    shown, asked = swept / "shown.png", swept / "net.json"
    text = (swept / "report.html").read_text(encoding="utf-8")
    # One that does ask, so that silence below means something.
    (swept / "asking.html").write_text('<img src="http://127.0.0.1:9/asked.png">')
    for html in ("report.html", "asking.html"):
        _browse(swept / html, profile, f"--screenshot={shown}", f"--log-net-log={asked}", "--window-size=1200,9000")
        requests = {url for url in re.findall(r'"url":"(https?://[^"]*)', asked.read_text()) if "127.0.0.1" in url}
        assert bool(requests) == (html == "asking.html")
        if html == "report.html":
            assert shown.stat().st_size > 200_000  # not a blank page: that has 40 kB
    dom = Parsed(_browse(swept / "report.html", profile, "--dump-dom"))
    assert [title for title, _ in dom.svgs] == [title for title, _ in Parsed(text).svgs]
    assert all(drawn > 20 for _, drawn in dom.svgs)


def _browse(page: Path, profile: Path, *flags: str) -> str:
    quiet = [
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-quic",
    ]
    command = [BROWSER or "", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += [f"--{flag}" for flag in quiet]
    done = subprocess.run([*command, *flags, page.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_the_page_says_when_whom_and_what_was_asked(tmp_path: Path) -> None:
    run = load(write(tmp_path / "one", list(offered(20)), rate=8.0))
    assert '<p class="note">toy · http://127.0.0.1:8000 · workload random · 01 March 2026, 12:00:00 UTC</p>' in page(
        "One", [run], [], [[]]
    )
    assert date("yesterday") == "yesterday"


def test_a_picture_that_stands_alone_says_what_it_shows() -> None:
    run = gather("one", offered(200))
    with drawing():
        labels = [plot.figure.axes[0].get_xlabel() for plot in latencies([run])]
    assert labels == ["TTFT", "TPOT", "ITL", "E2EL"]
