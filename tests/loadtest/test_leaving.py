"""Clients of the simulated cluster that leave midway: what they had is given back, and others get on sooner."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest

from loadtest.request import Request, Span
from loadtest.simulator.faults import Death
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Simulation
from loadtest.simulator.spec import Coupled, Spec
from loadtest.workload import poisson, shared_prefixes
from loadtest.workload.lengths import Lengths
from loadtest.workload.prefixes import Mix
from scheduler.conductor import Conductor
from scheduler.vocabulary import Measured, Outcome, RequestId
from tests.loadtest.build import machine, simulation, spec

MIX = Mix(prefixes=5, prefix=Lengths(500, 800, most=3000), question=Lengths(60, 100), answer=Lengths(30, 60))
MIXED = spec(prefill=0, decode=0, mixed=1)


def mix(rate_per_s: float = 40.0, number: int = 60) -> list[Request]:
    chance = Random(1)
    return shared_prefixes(poisson(rate_per_s, chance), number, MIX, chance=chance)


def some(requests: list[Request]) -> dict[int, int]:
    """A third of them, each after a number of tokens of its own; the first ones after one token."""
    chance = Random(2)
    able = [place for place, request in enumerate(requests) if request.output_tokens > 1]
    places = sorted(chance.sample(able, len(requests) // 3))
    late = {place: chance.randint(1, requests[place].output_tokens - 1) for place in places}
    return late | dict.fromkeys(places[:4], 1)


def run(cluster: Spec, requests: list[Request], leaving: Mapping[int, int], **conducted: int | None) -> list[Record]:
    world = simulation(cluster, keep_times=True, **conducted)  # type: ignore[arg-type]
    records = world.run(requests, leaving=leaving)
    emptied(world)
    return records


def emptied(world: Simulation) -> None:
    """Nobody holds a block, and nothing that the conductor believes was wrong."""
    world.check()
    assert world.snapshot().drifts == 0


def alone(output: int = 20, at_s: float = 0.5, content: int = 1) -> Request:
    return Request(at_s, (Span(content, 640),), Span(content + 1, output))


@pytest.mark.parametrize("inline", [0, None], ids=["handed over", "by cost"])
@pytest.mark.parametrize("tokens", [1, 2, 7, 19])
def test_who_leaves_has_so_many_tokens_at_the_times_at_which_it_would_have_had_them(
    tokens: int, inline: int | None
) -> None:
    (whole,) = run(spec(), [alone()], {}, inline_max_tokens=inline)
    (left,) = run(spec(), [alone()], {0: tokens}, inline_max_tokens=inline)

    assert (left.left, left.ended_s, left.rejected) == (True, None, None)
    assert left.times_s == whole.times_s[:tokens]
    assert not whole.left


class Listening(Conductor):
    """Keeps what it is told of ends."""

    def __init__(self) -> None:
        super().__init__(link_bytes_per_s=1e9)
        self.ends: list[tuple[RequestId, Outcome]] = []

    def outcome(self, request: RequestId, outcome: Outcome, *, now: float, measured: Measured | None = None) -> None:
        if outcome is not Outcome.HANDED_OVER:
            self.ends.append((request, outcome))
        super().outcome(request, outcome, now=now, measured=measured)


def test_the_conductor_is_told_once_of_each_that_it_finished_or_was_cancelled() -> None:
    """So its bookings end with it."""
    conductor, requests = Listening(), mix()
    leaving = some(requests)
    world = Simulation(spec(), conductor, chance=Random(0))
    world.run(requests, leaving=leaving)

    assert dict(conductor.ends) == {
        RequestId(f"r{place}"): Outcome.CANCELLED if place in leaving else Outcome.FINISHED
        for place in range(len(requests))
    }
    assert len(conductor.ends) == len(requests)
    emptied(world)


def test_its_seat_is_the_next_ones_as_soon_as_it_has_left() -> None:
    """On the worker, with one seat: from the end of the step that was under way."""
    both = [alone(output=400), alone(content=3, at_s=0.6)]
    one = replace(MIXED, max_num_seqs=1)
    _, after_all = run(one, both, {})
    first, second = run(one, both, {0: 100})

    assert second.ttft_s is not None
    assert after_all.ttft_s is not None
    step_s, prefill_s = 1.1e-3, 0.07
    gone_s = first.asked_s + first.times_s[-1]
    assert gone_s < second.asked_s + second.ttft_s < gone_s + step_s + prefill_s
    assert second.ttft_s < after_all.ttft_s - 0.2


def test_its_place_in_a_run_with_few_seats_is_the_next_ones_at_that_moment() -> None:
    world = simulation(spec(), keep_times=True)
    first, second = world.run([alone(at_s=0.0), alone(at_s=0.0, content=3)], seats=1, leaving={0: 5})

    assert second.asked_s == first.times_s[-1]
    emptied(world)


def test_nobody_follows_one_that_left() -> None:
    requests = [alone(), Request(1.0, (Span(3, 64),), Span(4, 2), after=0)]

    assert [record.place for record in run(spec(), requests, {0: 3})] == [0]
    assert [record.place for record in run(spec(), requests, {})] == [0, 1]


def test_what_it_computed_is_found_by_the_next_with_its_prompt() -> None:
    requests = [alone(), alone(at_s=5.0)]
    _, second = run(spec(), requests, {0: 1}, inline_max_tokens=0)

    assert second.cached_tokens >= 640 - 64


@pytest.mark.parametrize(
    "cluster",
    [
        spec(),
        spec(prefill=0, decode=0, mixed=3),
        spec(machine=machine(device_tokens=70 * 64), max_num_seqs=6),
        spec(dram_bytes=60 * 64 * 1024, ssd_bytes=500 * 70 * 1024),
        spec(prefill=0, decode=0, mixed=3, coupled=Coupled()),
    ],
    ids=["2P+2D", "mixed", "small device", "SSD", "coupled"],
)
def test_coasting_is_equal_to_stepping_where_some_leave(cluster: Spec) -> None:
    requests = mix()
    leaving = some(requests)
    coasted = run(cluster, requests, leaving)

    assert {record.place: len(record.times_s) for record in coasted if record.left} == leaving
    assert all(record.left or record.ended_s is not None for record in coasted)
    assert coasted == run(replace(cluster, coasting=False), requests, leaving)


def test_with_workers_that_die_each_leaves_with_what_it_wanted() -> None:
    """Those whose worker died meanwhile count what they had from it."""
    requests = [alone(output=400, content=2 * place, at_s=0.5 + place / 100) for place in range(12)]
    leaving = {place: 150 + 20 * place for place in range(0, 12, 2)}
    world = simulation(spec(prefill=2, decode=2), keep_times=True, inline_max_tokens=0)
    records = world.run(requests, leaving=leaving, faults=[Death(2, 0.75, 5.0)])

    assert any(record.left and record.placements == 2 for record in records)
    assert {record.place: len(record.times_s) for record in records if record.left} == leaving
    assert all(record.left or len(record.times_s) == 400 for record in records)
    world.check()
