"""Workers that know what was promised against workers that serve by arrival: the same arrivals, in virtual time."""

from pathlib import Path
from random import Random

import pytest

from loadtest.request import Request, Span
from loadtest.simulator.record import Record
from loadtest.workload import poisson
from scheduler.vocabulary import Promise
from tests.loadtest.build import simulation, spec

PAGE = (Path(__file__).parents[2] / "docs" / "scheduling.md").read_text(encoding="utf-8")


def short_and_long(rate_per_s: float, number: int, seed: int) -> list[Request]:
    """Prompts of 200 tokens, 24 ms, and every fifth one of 6,000, 640 ms; no two alike."""
    chance, requests = Random(seed), []
    for place, at_s in zip(range(number), poisson(rate_per_s, chance), strict=False):
        tokens = (6000 if chance.random() < 0.2 else 200) + chance.randrange(64)
        requests.append(Request(at_s, (Span(place + 1, tokens),), Span(900_000 + place, 20)))
    return requests


def run(requests: list[Request], promise: Promise, *, enforced: bool, admission: str = "off") -> list[Record]:
    cluster = spec(prefill=1, decode=1, enforced=enforced)
    world = simulation(cluster, promise=promise, inline_max_tokens=0, admission=admission)
    records = world.run(requests)
    world.check()
    return records


def in_time(records: list[Record], ttft_s: float) -> int:
    return sum(record.ttft_s is not None and record.ttft_s <= ttft_s for record in records)


@pytest.mark.parametrize("rate_per_s", [5.0, 8.0, 12.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_more_first_tokens_are_in_time_when_hopeless_prompts_step_back(rate_per_s: float, seed: int) -> None:
    """At 0.7 to 1.8 times what the prefill worker can do."""
    requests = short_and_long(rate_per_s, 150, seed)
    known, by_arrival = (run(requests, Promise(1.0), enforced=enforced) for enforced in (True, False))

    assert in_time(known, 1.0) > in_time(by_arrival, 1.0)
    assert all(record.ended_s is not None for record in known)


@pytest.mark.parametrize("admission", ["early", "predictive"])
@pytest.mark.parametrize("rate_per_s", [pytest.param(5.0, marks=pytest.mark.slow), 8.0])
def test_where_late_ones_are_refused_the_order_costs_nobody_its_promise(admission: str, rate_per_s: float) -> None:
    """Little is left to gain: what was admitted is in time by arrival, too. Over three seeds, within 1 %."""
    counts = {True: 0, False: 0}
    for enforced in counts:
        for seed in (1, 2, 3):
            records = run(short_and_long(rate_per_s, 150, seed), Promise(1.0), enforced=enforced, admission=admission)
            counts[enforced] += in_time(records, 1.0)

    assert counts[True] >= 0.99 * counts[False]
    assert counts[True] > 300


@pytest.mark.slow
@pytest.mark.parametrize(("rate_per_s", "admission"), [(5.0, "off"), (8.0, "off"), (5.0, "early"), (8.0, "predictive")])
def test_the_page_has_the_figures(rate_per_s: float, admission: str) -> None:
    """docs/scheduling.md, *Whose turn it is*."""
    requests = short_and_long(rate_per_s, 600, 1)
    known, by_arrival = (
        in_time(run(requests, Promise(1.0), enforced=enforced, admission=admission), 1.0) for enforced in (True, False)
    )
    assert f"| {rate_per_s:g}, {admission} | {by_arrival} | {known} |" in PAGE
