"""``moonpool loadtest compare``: two endpoints, or two settings, under the same arrivals; what differs beyond noise.

Pairs of runs, A B, B A, A B ..: what drifts falls on both alike. A pair shares its seed, so its requests and times; the
next pair has other ones. What pairs say is ``loadtest.paired``'s.
"""

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest import flags
from loadtest.arguments import Parser, number
from loadtest.paired import FEWEST, Paired, Verdict, as_json, paired, ratio_as
from loadtest.run import RunError
from loadtest.run import run as run_once
from loadtest.run_directory import RunDirectoryError
from loadtest.settings import RunSettings
from loadtest.several import Runs, SeveralError, add_keeping, ended, made, made_once, resetting, shown_as, write

NAME = "moonpool loadtest compare"
COMPARISON = "compare.json"
SIDES = ("a", "b")
MEASURES = {
    "median_ttft_ms": "TTFT median, ms",
    "mean_ttft_ms": "TTFT mean, ms",
    "p99_ttft_ms": "TTFT p99, ms",
    "median_tpot_ms": "TPOT median, ms",
    "p99_tpot_ms": "TPOT p99, ms",
    "p99_itl_ms": "ITL p99, ms",
    "median_e2el_ms": "E2EL median, ms",
    "p99_e2el_ms": "E2EL p99, ms",
    "request_throughput": "finished/s",
    "output_throughput": "output tokens/s",
    "request_goodput": "good/s",
    "slo_attainment": "good, of offered",
    "num_prompts": "offered",
    "completed": "finished",
    "failed": "failed, refused among them",
    "total_computed_tokens": "prompt tokens computed",
}
"""Of a summary. All that has a ratio; what is better, lower or higher, the reader knows."""


@dataclass(slots=True)
class Comparison:
    """pairs: summaries (JSON) of a and b that were offered the same. failed: why a run could not be made."""

    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    interrupted: bool = False
    failed: str = ""


def main(argv: Sequence[str]) -> int:
    """130 where it was interrupted, 1 where a run failed: whole pairs until then are told, and kept."""
    parser = _parser()
    asked, urls = _asked(parser, argv)
    sides = _sides(argv, asked, urls)
    try:
        directory = made(asked.out, what="a comparison", resume=asked.resume)
        ready = {name: resetting(side, keep=asked.keep_caches) for name, side in sides.items()}
        found = compare(ready, asked.pairs, directory, tell=_tell)
    except (RunError, RunDirectoryError, SeveralError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 1
    document = described(found, sides)
    unkept = write(directory and directory / COMPARISON, document)
    for warning in document["warnings"]:
        print(f"{NAME}: {warning}", file=sys.stderr)
    if asked.json:
        print(json.dumps(document))
    else:
        Console().print(table(document))
        for words, told in document["without"].items():
            print(f"{words}: not compared, {told}")
        print(document["sentence"])
    return ended(NAME, interrupted=found.interrupted, failed=found.failed or unkept)


def compare(
    sides: dict[str, RunSettings],
    pairs: int,
    directory: Path | None = None,
    *,
    run: Runs = run_once,
    tell: Callable[[str], None] = lambda words: None,
) -> Comparison:
    """Raises as ``run`` does. A pair that was interrupted doesn't count."""
    found = Comparison()
    for place in range(1, pairs + 1):
        summaries = {}
        for name in SIDES if place % 2 else SIDES[::-1]:
            side = sides[name]
            one = replace(side, offer=replace(side.offer, seed=side.offer.seed + place - 1))
            tell(f"pair {place} of {pairs}: {name}")
            try:
                result = made_once(run, one, directory and directory / f"{name}-{place}")
            except KeyboardInterrupt:  # before anything was sent
                found.interrupted = True
                return found
            except (RunError, RunDirectoryError) as error:
                if not found.pairs:
                    raise
                found.failed = str(error)
                return found
            summaries[name] = result.summary
            if summaries[name]["interrupted"] or result.unkept:
                found.interrupted, found.failed = bool(summaries[name]["interrupted"]), result.unkept
                return found
        found.pairs.append((summaries["a"], summaries["b"]))
    return found


def described(found: Comparison, sides: dict[str, RunSettings]) -> dict[str, Any]:  # Any: JSON
    """The document of ``--json``, and of ``compare.json``."""
    measures = [row for row in (_measure(found, name) for name in MEASURES) if row is not None]
    without = {words: told for name, words in MEASURES.items() if (told := _without(found, name))}
    return {
        "pairs": len(found.pairs),
        "interrupted": found.interrupted,
        "failed": found.failed,
        "sentence": sentence(measures, len(found.pairs)),
        "measures": measures,
        "without": without,
        "warnings": list(dict.fromkeys(_warnings(found))),
        "a": sides["a"].described(),
        "b": sides["b"].described(),
    }


def sentence(measures: Sequence[dict[str, Any]], pairs: int) -> str:  # Any: JSON
    """What may be said, and no more."""
    if pairs == 0:
        return "No pair of runs was whole, so there is nothing to compare."
    if pairs < FEWEST:
        few = "1 pair is" if pairs == 1 else f"{pairs} pairs are"
        return f"{few} too few to tell a difference from noise: that {FEWEST} all agree, chance does one time in 32."
    differs = [row["words"] for row in measures if row["verdict"] in (Verdict.HIGHER, Verdict.LOWER)]
    chance = (
        f"of {len(measures)} measures of twice the same thing, about {len(measures) * _by_chance(measures):.1f} would"
    )
    if not differs:
        return (
            f"Nothing differs by more than noise. A difference may still be there, smaller than {pairs} pairs can show."
        )
    return f"More than noise: {'; '.join(differs)}. By chance alone {chance}."


def table(document: dict[str, Any]) -> Table:  # Any: JSON
    """For people."""
    shown = Table(
        title=f"pairs: {document['pairs']}; medians of runs; b : a is the median of ratios", title_justify="left"
    )
    for column in ("", "a", "b", "b : a", "interval", "b is"):
        shown.add_column(column, justify="right" if column else "left")
    for row in document["measures"]:
        low, high = row["low"], row["high"]
        shown.add_row(
            row["words"],
            shown_as(row["a"]),
            shown_as(row["b"]),
            ratio_as(row["ratio"]),
            "-" if low is None or high is None else f"{ratio_as(low)}–{ratio_as(high)}",
            row["verdict"],
        )
    return shown


def _measure(found: Comparison, name: str) -> dict[str, Any] | None:  # Any: JSON
    """None where a pair lacks it, or has no ratio."""
    values = [(a.get(name), b.get(name)) for a, b in found.pairs]
    known = [(float(a), float(b)) for a, b in values if a is not None and b is not None]
    if len(known) < len(values) or (ratios := paired(known)) is None:
        return None
    return {
        "name": name,
        "words": MEASURES[name],
        "a": median(a for a, _ in known),
        "b": median(b for _, b in known),
        **_told(ratios),
    }


def _told(ratios: Paired) -> dict[str, Any]:  # Any: JSON
    return {
        "ratio": as_json(ratios.ratio),
        "low": as_json(ratios.low),
        "high": as_json(ratios.high),
        "coverage": ratios.coverage,
        "verdict": ratios.verdict.value,
        "ratios": [as_json(ratio) for ratio in ratios.ratios],
    }


def _without(found: Comparison, name: str) -> str:
    """Whose runs lack it, and how many; nothing where all have it, or nobody does."""
    lacking = {side: [pair[place].get(name) for pair in found.pairs].count(None) for place, side in enumerate(SIDES)}
    if not any(lacking.values()) or all(number == len(found.pairs) for number in lacking.values()):
        return ""
    told = (f"{side} has none in {number} of {len(found.pairs)} runs" for side, number in lacking.items() if number)
    return " and ".join(told)


def _by_chance(measures: Sequence[dict[str, Any]]) -> float:  # Any: JSON
    return 1.0 - min((row["coverage"] for row in measures if row["coverage"] is not None), default=1.0)


def _warnings(found: Comparison) -> Iterator[str]:
    for pair in found.pairs:
        for name, summary in zip(SIDES, pair, strict=True):
            yield from (f"{name}: {warning}" for warning in summary["harness"]["warnings"])


def _asked(parser: Parser, argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    """What both are told, and the URLs: two of them are one for each side."""
    urls = Parser(prog=NAME, add_help=False, allow_abbrev=False)
    urls.add_argument("--url", action="append", default=[])
    asked = flags.parse(parser, argv)
    given: list[str] = urls.parse_known_args(list(argv))[0].url
    if len(given) not in (0, 1, 2):
        parser.error("--url is given once, for both, or twice: the first is a's, the second b's")
    if asked.a is None and asked.b is None and len(given) < 2:
        parser.error('what differs? two --url, or --a FLAGS and --b FLAGS, such as --a="--slo-ttft-ms 500"')
    return asked, given


def _sides(argv: Sequence[str], asked: Namespace, urls: Sequence[str]) -> dict[str, RunSettings]:
    """Each side's settings: what both are told, then what it is told beside. A mistake ends the process."""
    found = {}
    for place, (name, own) in enumerate(zip(SIDES, (asked.a, asked.b), strict=True)):
        parser = _parser(f"{NAME}: --{name}")
        beside = (["--url", urls[place]] if len(urls) == 2 else []) + shlex.split(own or "")
        found[name] = flags.settings(parser, flags.parse(parser, [*argv, *beside]))
    parser = _parser()
    if found["a"].slos != found["b"].slos:
        parser.error("--goodput has to be the same for both")
    if found["a"].offer != found["b"].offer:
        parser.error("both have to be offered the same: --a and --b may change who is asked and how, not what")
    if asked.pairs < 1:
        parser.error("--pairs is at least 1")
    return found


def _tell(words: str) -> None:
    print(f"{NAME}: {words}", file=sys.stderr)


def _parser(prog: str = NAME) -> Parser:
    parser = Parser(
        prog=prog,
        description="Offer the same to two endpoints (--url twice), or to one that is asked in two ways (--a, --b), in "
        "interleaved runs, and tell which figures differ by more than noise.",
        allow_abbrev=False,
    )
    flags.add_all(parser)
    group = parser.add_argument_group("what is compared")
    add = group.add_argument
    add(
        "--a",
        metavar="FLAGS",
        help='what only a is told: --a="--url .. --header tier:gold" [nothing]',
    )
    add("--b", metavar="FLAGS", help="what only b is told [nothing]")
    add(
        "--pairs",
        type=number,
        default=FEWEST,
        metavar="N",
        help=f"pairs of runs; fewer than {FEWEST} prove nothing [{FEWEST}]",
    )
    add("--keep-caches", action="store_true", help="don't empty the servers' caches before each run")
    add_keeping(parser)
    return parser
