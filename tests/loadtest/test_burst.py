"""Those admitted in a burst have their first token in time, though calls are slow while all are asked for at once."""

from functools import cache
from random import Random

import pytest

from loadtest.request import Request, Span
from loadtest.simulator.disturbed import Disturbed
from scheduler.vocabulary import Profile, Promise
from tests.loadtest.build import machine, simulation, spec

PROMISE = Promise(ttft_s=3.0)
LAPTOP = Profile(prefill_s=(0.003, 0.0006, 2e-8), step_s=(0.02, 0.001, 0.0), transfer_s=(0.0, 0.0))
"""About 1,500 tokens a second."""


def crowd(chance: Random, *, number: int = 400, within_s: float) -> list[Request]:
    """Prompts of 50 to 400 tokens, all within so many seconds."""
    return [
        Request(within_s * chance.random(), (Span(2 * place, round(chance.uniform(50, 400))),), Span(2 * place + 1, 30))
        for place in range(number)
    ]


@cache
def ttfts(admission: str, seed: int, within_s: float) -> list[float]:
    """Of those admitted, by a machine that is a tenth slower than it was measured."""
    busy = spec(
        machine=machine(profile=LAPTOP, device_tokens=4000 * 64, dram_bytes=4000 * 64 * 1024),
        prefill=1,
        decode=1,
        disturbed=Disturbed(factor=1.1, spread=0.1, seed=seed),
        calls_s=0.4,
    )
    world = simulation(busy, seed=seed, admission=admission, promise=PROMISE, inline_max_tokens=0)
    records = world.run(crowd(Random(seed), within_s=within_s))
    world.check()
    return sorted(record.ttft_s for record in records if record.ttft_s is not None)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("admission", "within_s"),
    [
        ("predictive", 0.5),
        pytest.param("predictive", 0.0, marks=SLOW),
        pytest.param("predictive", 3.0, marks=SLOW),
        pytest.param("early", 0.5, marks=SLOW),
        pytest.param("baseline", 0.5, marks=SLOW),
    ],
)
def test_those_admitted_in_a_burst_of_400_are_in_time(admission: str, within_s: float) -> None:
    """Without what is kept in reserve, the length of a step and the time that calls take, 22 of 77 were late; and where
    a late one stepped back behind all others, one took 5.6 s."""
    found = [ttft_s for seed in range(3) for ttft_s in ttfts(admission, seed, within_s)]

    assert len(found) > 50
    assert sum(ttft_s <= PROMISE.ttft_s for ttft_s in found) >= 0.97 * len(found)
    assert max(found) <= 1.5 * PROMISE.ttft_s
