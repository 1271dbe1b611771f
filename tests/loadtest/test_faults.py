"""Clusters on which things go wrong."""

from dataclasses import replace
from random import Random

import pytest

from loadtest.request import Request, Span
from loadtest.simulator.faults import Death, Fault, Silence, Slow, faults
from loadtest.simulator.record import Record
from loadtest.simulator.spec import Spec
from loadtest.workload import poisson, shared_prefixes
from loadtest.workload.lengths import Lengths
from loadtest.workload.prefixes import Mix
from scheduler.vocabulary import Profile
from tests.loadtest.build import machine, simulation, spec

MIX = Mix(prefixes=5, prefix=Lengths(500, 800, most=3000), question=Lengths(60, 100), answer=Lengths(60, 120))
THREE = spec(prefill=3, decode=3)


def mix(seed: int, *, number: int = 150, rate_per_s: float = 10.0) -> list[Request]:
    chance = Random(seed)
    return shared_prefixes(poisson(rate_per_s, chance), number, MIX, chance=chance)


def run(spec: Spec, requests: list[Request], wrong: list[Fault]) -> list[Record]:
    """Every token of every answer came, as the story asserts; and afterwards nobody holds anything."""
    world = simulation(spec, inline_max_tokens=0)
    records = world.run(requests, faults=wrong)
    world.check()
    assert world.snapshot().drifts == 0
    return records


def test_a_stream_whose_decode_worker_dies_goes_on_elsewhere_with_the_tokens_it_has() -> None:
    requests = [Request(0.5, (Span(1, 640),), Span(2, 400))]
    (whole,) = run(THREE, requests, [])
    (torn,) = run(THREE, requests, [Death(3, 0.75, 5.0)])

    assert (whole.placements, torn.placements) == (1, 2)
    assert whole.ended_s is not None
    assert torn.ended_s is not None
    assert whole.ended_s < torn.ended_s < whole.ended_s + 0.3  # what it had was prefilled again, mostly from the cache
    assert torn.ttft_s == whole.ttft_s


def test_a_prefill_worker_that_dies_costs_what_it_had_computed() -> None:
    requests = [Request(0.5, (Span(1, 6400),), Span(2, 10))]
    (record,) = run(THREE, requests, [Death(0, 0.8, 5.0)])

    assert record.placements == 2
    assert record.prefill != "prefill 0"
    assert record.ttft_s is not None
    assert record.ttft_s > 0.3 + 0.64


def test_a_store_that_comes_back_is_empty() -> None:
    again = [Request(at_s, (Span(1, 640),), Span(2, 1)) for at_s in (0.5, 20.0)]
    one = spec(prefill=1, decode=1)

    assert [record.cached_tokens for record in run(one, again, [])] == [0, 576]
    assert [record.cached_tokens for record in run(one, again, [Death(0, 5.0, 6.0), Death(1, 5.0, 6.0)])] == [0, 0]


def test_a_slow_host_is_slow_while_it_lasts() -> None:
    requests = [Request(at_s, (Span(place, 1280),), Span(9, 1)) for place, at_s in enumerate((0.5, 20.0))]
    one = spec(prefill=1, decode=1)
    slowed, later = run(one, requests, [Slow(0, 0.1, 10.0, 3.0)])

    assert slowed.ttft_s == pytest.approx(3.0 * (later.ttft_s or 0.0))


def test_a_host_that_is_not_heard_is_not_asked_and_its_store_is_learned_anew() -> None:
    """Silent while a prompt is cached there, and heard again before the prompt comes back."""
    requests = [
        Request(at_s, (Span(place % 2, 1280),), Span(9, 1)) for place, at_s in enumerate((0.5, 3.0, 30.0, 30.0))
    ]
    records = run(spec(prefill=2, decode=1), requests, [Silence(0, 0.6, 20.0)])

    assert [record.prefill for record in records[:2]] == ["prefill 0", "prefill 1"]
    assert [record.cached_tokens for record in records] == [0, 0, 1216, 1216]


def test_with_nobody_left_a_request_is_rejected() -> None:
    requests = [Request(10.0, (Span(1, 64),), Span(2, 1))]
    (record,) = run(spec(prefill=1, decode=1), requests, [Death(0, 5.0, 60.0), Death(1, 5.0, 60.0)])

    assert record.rejected == "no worker is alive"


@pytest.mark.parametrize("seed", range(4))
def test_whatever_goes_wrong_every_request_ends_and_nothing_is_held(seed: int) -> None:
    wrong = faults(hosts=6, span_s=15.0, deaths=4, slow=2, silences=2, chance=Random(seed))
    records = run(THREE, mix(seed), wrong)

    assert len(records) == 150
    assert all((record.ended_s is None) == (record.rejected is not None) for record in records)
    assert any(record.placements > 1 for record in records)


@pytest.mark.parametrize("seed", range(2))
def test_coasting_is_equal_to_stepping_whatever_goes_wrong(seed: int) -> None:
    wrong = faults(hosts=6, span_s=15.0, deaths=3, slow=2, silences=2, chance=Random(seed))
    requests = mix(seed, number=80)

    assert run(THREE, requests, wrong) == run(replace(THREE, coasting=False), requests, wrong)


@pytest.mark.parametrize("at_s", [1.0625, 2.0625])
def test_who_dies_just_when_a_step_ends_has_done_that_step(at_s: float) -> None:
    exact = machine(profile=Profile(prefill_s=(0.0, 2.0**-10, 0.0), step_s=(0.25, 0.0, 0.0)))
    one = [Request(0.0, (Span(1, 64),), Span(2, 9))]  # tokens at 0.0625, 0.3125 .. 2.0625

    world = simulation(spec(machine=exact, prefill=0, decode=0, mixed=2))
    (record,) = world.run(one, faults=[Death(0, at_s, 5.0)])
    world.check()

    assert record.placements == (1 if at_s == 2.0625 else 2)
    assert record.output_tokens == 9


def test_there_are_as_many_faults_as_were_asked_for_and_slow_hosts_are_slow() -> None:
    wrong = faults(hosts=6, span_s=100.0, deaths=2, slow=3, silences=4, chance=Random(1))

    assert [sum(isinstance(each, kind) for each in wrong) for kind in (Death, Slow, Silence)] == [2, 3, 4]
    assert all(2.0 <= each.factor <= 5.0 for each in wrong if isinstance(each, Slow))
    assert all(0 <= each.host < 6 and 0.0 <= each.at_s <= 100.0 for each in wrong)
    ends_s = [each.back_s if isinstance(each, Death) else each.until_s for each in wrong]
    assert all(5.0 <= end_s - each.at_s <= 60.0 for each, end_s in zip(wrong, ends_s, strict=True))


def test_faults_are_a_function_of_their_seed() -> None:
    def made(seed: int) -> list[Fault]:
        return faults(hosts=6, span_s=100.0, deaths=2, slow=2, silences=2, chance=Random(seed))

    assert made(1) == made(1)
    assert made(1) != made(2)
