"""More requests than can be served as promised, and what the modes of admission make of it."""

from collections import Counter
from functools import cache
from random import Random

import pytest

from loadtest.request import Request
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Sample
from loadtest.workload import poisson, shared_prefixes
from loadtest.workload.lengths import Lengths
from loadtest.workload.prefixes import Mix
from scheduler.admission import Promise
from tests.loadtest.build import machine, simulation, spec

MIX = Mix(
    prefixes=300, prefix=Lengths(300, 500, most=2000), question=Lengths(60, 100), answer=Lengths(300, 400, most=900)
)
PROMISE = Promise(ttft_s=2.0, tpot_s=0.00115)
"""A step takes 1 ms, and some 17 us more for each sequence: up to nine of them on a worker, where 14 would come."""


def overload() -> list[Request]:
    chance = Random(5)
    return shared_prefixes(poisson(60.0, chance), 200, MIX, chance=chance)


@cache
def run(admission: str) -> tuple[list[Record], list[Sample]]:
    roomy = spec(machine=machine(device_tokens=500 * 64), prefill=4)
    world = simulation(roomy, inline_max_tokens=0, admission=admission, promise=PROMISE)
    records = world.run(overload(), sample_s=0.5)
    world.check()
    return records, world.samples


def count(records: list[Record]) -> Counter[str]:
    """How many were refused before their prefill, how many after it, and how many were not."""
    return Counter(
        "taken" if record.rejected is None else "before" if record.ttft_s is None else "after" for record in records
    )


def test_without_admission_nobody_is_refused() -> None:
    records, _ = run("off")

    assert count(records) == {"taken": 200}


def test_baseline_refuses_some_after_their_prefill_and_that_was_in_vain() -> None:
    records, _ = run("baseline")

    assert count(records)["after"] > 0
    assert all(record.ended_s is None for record in records if record.rejected is not None)


@pytest.mark.parametrize("admission", ["early", "predictive"])
def test_early_rejection_wastes_no_prefill(admission: str) -> None:
    found = count(run(admission)[0])

    assert found["after"] == 0
    assert found["before"] > 0


def test_refusing_keeps_the_pool_of_decodes_near_its_promise() -> None:
    slowest = {mode: max(sample.step_s for sample in run(mode)[1]) for mode in ("off", "predictive")}

    assert slowest["off"] > 1.08 * PROMISE.tpot_s
    assert slowest["predictive"] < 1.04 * PROMISE.tpot_s


def test_both_pools_are_sampled_while_anybody_is_served() -> None:
    _, samples = run("off")

    assert [sample.at_s for sample in samples] == pytest.approx([0.5 * place for place in range(len(samples))])
    assert max(sample.queued_s for sample in samples) > 0.0
    assert max(sample.step_s for sample in samples) > PROMISE.tpot_s
    assert samples[-1].step_s == 0.0
