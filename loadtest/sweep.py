"""``moonpool loadtest sweep``: the highest rate at which enough of what is offered keeps its bounds.

The search is ``loadtest.search``'s; here it is run: each rate a run of its own, with caches emptied before it.
"""

import json
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest import flags
from loadtest.arguments import Parser, above_0, number
from loadtest.metrics.slo import good
from loadtest.run import RunError, requests
from loadtest.run import run as run_once
from loadtest.run_directory import RunDirectoryError
from loadtest.search import Answer, Certainty, Search, Tried
from loadtest.settings import RunSettings
from loadtest.several import Runs, SeveralError, add_keeping, ended, made, made_once, resetting, shown_as, write

NAME = "moonpool loadtest sweep"
SWEEP = "sweep.json"


@dataclass(slots=True)
class Sweep:
    """What became of it. summaries: by rate, each run's. failed: why it ended early, where a run could not be made."""

    search: Search
    summaries: dict[float, list[dict[str, Any]]]  # Any: JSON
    interrupted: bool = False
    failed: str = ""


def main(argv: Sequence[str]) -> int:
    """130 where it was interrupted, 1 where a run failed: what was found until then is told, and kept."""
    parser = _parser()
    asked = flags.parse(parser, argv)
    settings = flags.settings(parser, asked)
    try:
        _check(parser, asked, settings)
        directory = made(asked.out, what="a sweep", resume=asked.resume)
        found = sweep(resetting(settings, keep=asked.keep_caches), _search(asked), directory, tell=_tell)
    except (RunError, RunDirectoryError, SeveralError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 1
    document = described(found, settings, target=asked.attainment)
    unkept = write(directory and directory / SWEEP, document)
    for warning in document["warnings"]:
        print(f"{NAME}: {warning}", file=sys.stderr)
    if asked.json:
        print(json.dumps(document))
    else:
        Console().print(table(document))
        print(document["sentence"])
    return ended(NAME, interrupted=found.interrupted, failed=found.failed or unkept)


def sweep(
    settings: RunSettings,
    search: Search,
    directory: Path | None = None,
    *,
    run: Runs = run_once,
    tell: Callable[[float, float], None] = lambda rate, share: None,
) -> Sweep:
    """Until the search ends or a run is interrupted. Runs of one rate differ in their seed. Raises as ``run`` does."""
    scale = _rate_at_speed_1(settings)
    found = Sweep(search, {})
    while not found.interrupted and (rate := search.next()) is not None:
        summaries = found.summaries.setdefault(rate, [])
        place = len(summaries) + 1
        one = at(settings, rate, scale=scale, seed=settings.offer.seed + place - 1)
        try:
            result = made_once(run, one, directory and directory / f"rate-{rate:.4g}-{place}")
        except KeyboardInterrupt:  # before anything was sent
            found.interrupted = True
            break
        except (RunError, RunDirectoryError) as error:
            if not search.tried:
                raise
            found.failed = str(error)
            break
        summaries.append(result.summary)
        found.interrupted = bool(result.summary["interrupted"])
        if not found.interrupted:  # what was cut off is no measurement of its rate
            judged = [good(record, settings.slos) for record in result.records]
            search.told(rate, judged.count(True), len(judged) - judged.count(None))
            tell(rate, judged.count(True) / max(1, len(judged) - judged.count(None)))
        if result.unkept:
            found.failed = result.unkept
            break
    return found


def at(settings: RunSettings, rate: float, *, scale: float | None, seed: int) -> RunSettings:
    """The same at another rate. scale: of a trace, its own rate; it is replayed faster or slower."""
    offer = replace(settings.offer, seed=seed)
    offer = replace(offer, rate_per_s=rate) if scale is None else replace(offer, speed=rate / scale)
    return replace(settings, offer=offer)


def described(found: Sweep, settings: RunSettings, *, target: float) -> dict[str, Any]:  # Any: JSON
    """The document of ``--json``, and of ``sweep.json``."""
    answer = found.search.answer()
    return {
        "rate": answer.low.rate if answer.low else None,
        "rate_above": answer.high.rate if answer.high else None,
        "attainment_target": target,
        "certainty": answer.certainty.value,
        "sentence": sentence(answer, target),
        "interrupted": found.interrupted,
        "failed": found.failed,
        "points": [_point(tried, found) for tried in found.search.tried],
        "warnings": list(dict.fromkeys(_warnings(found))),
        "settings": settings.described(),
    }


def sentence(answer: Answer, target: float) -> str:
    """What was found and how sure it is."""
    low, high = answer.low, answer.high
    if low is None and high is None:
        return "Nothing was measured."
    parts = []
    if low is not None:
        parts.append(f"{low.rate:.4g} requests a second keep the bounds for {_share(low)} (asked: {target:.0%}).")
    if high is not None:
        words = (
            "don't" if low is not None else f"don't, of which {target:.0%} was asked, and no lower rate was to be tried"
        )
        parts.append(f"{high.rate:.4g} requests a second {words}: {_share(high)}.")
    else:
        parts.append("No higher rate was to be tried.")
    return " ".join([*parts, SURE[answer.certainty]])


SURE = {
    Certainty.CLEAR: "Every run at these rates agrees, and chance in which requests were drawn does not explain it.",
    Certainty.CLOSE: "It is close: runs disagree, or lie so near that chance may have decided; more --repeats or "
    "longer runs would tell.",
    Certainty.SINGLE: "A rate was tried only once, so how much runs differ is not known; --repeats 2 would tell.",
    Certainty.UNFINISHED: "The search ended early, so the border may lie elsewhere between these.",
}


def table(document: dict[str, Any]) -> Table:  # Any: JSON
    """Each rate that was tried, for people."""
    bounds = " ".join(document["settings"]["goodput"])
    shown = Table(title=f"good: {bounds} (ms); TTFT and TPOT: p99, ms, means of runs", title_justify="left")
    for column in ("rate", "runs", "good", "95 %", "good/s", "TTFT", "TPOT", ""):
        shown.add_column(column, justify="right", no_wrap=True)
    for point in document["points"]:
        low, high = point["interval"]
        shown.add_row(
            f"{point['rate']:.4g}",
            str(len(point["attainments"])),
            f"{point['attainment']:.1%}",
            f"{100 * low:.0f}–{100 * high:.0f} %",
            shown_as(point["request_goodput"]),
            shown_as(point["p99_ttft_ms"]),
            shown_as(point["p99_tpot_ms"]),
            "holds" if point["holds"] else "fails",
        )
    return shown


def _point(tried: Tried, found: Sweep) -> dict[str, Any]:  # Any: JSON
    summaries = found.summaries[tried.rate]
    means = ("offered_request_rate", "request_goodput", "request_throughput", "p99_ttft_ms", "p99_tpot_ms")
    return {
        "rate": tried.rate,
        "holds": found.search.holds(tried),
        "good": tried.good,
        "judged": tried.judged,
        "attainment": tried.share,
        "interval": list(tried.interval),
        "attainments": tried.shares,
        **{name: _mean([summary[name] for summary in summaries]) for name in means},
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _share(tried: Tried) -> str:
    low, high = tried.interval
    spread = f", {min(tried.shares):.1%} to {max(tried.shares):.1%} in {len(tried.runs)} runs" if tried.runs[1:] else ""
    return f"{tried.share:.1%} of {tried.judged:,} requests (95 % interval {low:.1%} to {high:.1%}{spread})"


def _warnings(found: Sweep) -> Iterator[str]:
    for rate, summaries in found.summaries.items():
        for summary in summaries:
            yield from (f"at {rate:.4g} requests a second {warning}" for warning in summary["harness"]["warnings"])


def _rate_at_speed_1(settings: RunSettings) -> float | None:
    """Of a trace, requests a second as it was recorded; None: no trace."""
    if settings.offer.workload != "trace":
        return None
    whole = requests(replace(settings, offer=replace(settings.offer, speed=1.0, duration_s=None)))
    span_s = max(request.at_s for request in whole.requests)
    if not span_s:
        raise SeveralError("all of the trace's requests come at once: it has no rate to change")
    return len(whole.requests) / span_s


def _check(parser: Parser, asked: Namespace, settings: RunSettings) -> None:
    if asked.repeats < 1 or asked.runs < 1:
        parser.error("--repeats and --runs are at least 1")
    if not settings.slos:
        parser.error("a sweep needs --goodput, such as ttft:1000 tpot:100: the bounds that a rate has to keep")
    if asked.min_rate > asked.max_rate:
        parser.error(f"--min-rate {asked.min_rate:g} is above --max-rate {asked.max_rate:g}")
    if settings.offer.ramp is not None or settings.offer.rate_per_s != inf:
        parser.error("a sweep sets the rate itself: --min-rate and --max-rate instead of --request-rate and ramps")
    if settings.offer.max_concurrency is not None:
        parser.error("--max-concurrency would hold back what a rate offers; a sweep needs open arrivals")


def _search(asked: Namespace) -> Search:
    return Search(
        target=asked.attainment,
        lowest=asked.min_rate,
        highest=asked.max_rate,
        tolerance=asked.tolerance,
        repeats=asked.repeats,
        most=asked.runs,
    )


def _tell(rate: float, share: float) -> None:
    print(f"{NAME}: {rate:.4g} requests a second: {share:.1%} good", file=sys.stderr)


def _attainment(text: str) -> float:
    if (found := above_0(text)) > 1.0:
        raise ArgumentTypeError(f"{text!r} is no share above 0, up to 1")
    return found


def _parser() -> Parser:
    parser = Parser(
        prog=NAME,
        description="Find the highest rate at which a share of all that is offered keeps its bounds (--goodput). "
        "Give --duration, so that every run lasts as long: of a number of requests, higher rates are shorter tests.",
        allow_abbrev=False,
    )
    flags.add_all(parser)
    group = parser.add_argument_group("what is searched")
    add = group.add_argument
    add("--attainment", type=_attainment, default=0.9, metavar="X", help="the share that has to be good [0.9]")
    add("--min-rate", type=above_0, default=1.0, metavar="R", help="requests a second to begin with [1]")
    add("--max-rate", type=above_0, default=1024.0, metavar="R", help="never ask for more [1024]")
    add(
        "--tolerance",
        type=above_0,
        default=0.1,
        metavar="X",
        help="how far apart, relatively, the border's sides may be [0.1]",
    )
    add("--repeats", type=number, default=2, metavar="N", help="runs at each of the two rates beside the border [2]")
    add("--runs", type=number, default=30, metavar="N", help="at most so many in all [30]")
    add("--keep-caches", action="store_true", help="don't empty the server's caches before each run")
    add_keeping(parser)
    return parser
