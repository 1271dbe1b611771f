"""More requests than can be served as promised, and what the modes of admission make of it."""

from collections import Counter
from functools import cache
from random import Random

import numpy as np
import pytest

from loadtest.reproduce.refusals import swings
from loadtest.request import Request, Span
from loadtest.simulator.pools import Sample
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Simulation
from loadtest.workload import poisson, shared_prefixes
from loadtest.workload.lengths import Lengths
from loadtest.workload.prefixes import Mix
from scheduler.conductor import Conductor
from scheduler.vocabulary import Profile, Promise, Rejection, RequestId
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
def test_early_rejection_wastes_fewer_prefills(admission: str) -> None:
    found, baseline = count(run(admission)[0]), count(run("baseline")[0])

    assert found["after"] < baseline["after"]
    assert found["before"] > baseline["before"]


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


# -- decodes are short, and prefills take half as long as they do -----------------------------------------------------

SLOW = Profile(prefill_s=(0.0, 1e-3, 0.0), step_s=(1e-2, 1e-3, 1e-8), transfer_s=(1e-5, 1e-10))
PATIENT = Promise(ttft_s=20.0, tpot_s=0.025)
"""Steps of up to 15 sequences a worker; a margin for the slowest gaps leaves a dozen, that last 11 s."""


def steady(seed: int = 1, *, number: int = 600) -> list[Request]:
    """Three in a second, of 4 s of prefill each, where two decode workers take two in a second."""
    chance = Random(seed)
    made, at_s = [], 0.0
    for place in range(number):
        at_s += chance.expovariate(3.0)
        answer = max(20, min(1800, round(chance.expovariate(1 / 600))))
        made.append(Request(at_s, (Span(2 * place, 4000),), Span(2 * place + 1, answer)))
    return made


class OnArrivalAlone(Conductor):
    """Does not look at the decode pool again when a prefill has ended."""

    def decode_begins(self, request: RequestId, *, now: float) -> Rejection | None:
        super().decode_begins(request, now=now)
        return None


@cache
def swing(admission: str, *, again: bool = True) -> tuple[list[Record], list[Sample]]:
    roomy = machine(profile=SLOW, device_tokens=400 * 512, max_model_len=16384, dram_bytes=400 * 512 * 1024)
    made = (Conductor if again else OnArrivalAlone)(
        link_bytes_per_s=roomy.link_bytes_per_s, inline_max_tokens=0, admission=admission, promise=PATIENT
    )
    world = Simulation(spec(machine=roomy, prefill=16, decode=2, block_tokens=512), made, chance=Random(0))
    records = world.run(steady(), sample_s=0.5)
    world.check()
    return records, world.samples


def kept(admission: str, *, again: bool = True) -> float:
    """The share of those who finished that finished within both SLOs."""
    finished = [record for record in swing(admission, again=again)[0] if record.ended_s is not None]
    return good(admission, again=again) / len(finished)


def good(admission: str, *, again: bool = True) -> int:
    return sum(record.within(PATIENT.ttft_s, PATIENT.tpot_s) for record in swing(admission, again=again)[0])


def deviations(admission: str, *, again: bool = True) -> tuple[float | None, float, float]:
    records, samples = swing(admission, again=again)
    settled = [sample for sample in samples if sample.at_s > 15.0]
    return swings(settled, PATIENT, until_s=max(record.asked_s for record in records))


@pytest.mark.slow
def test_who_decides_on_arrival_alone_makes_the_pools_swing_against_each_other_and_prediction_damps_it() -> None:
    """The decodes that ``early`` looks at are one prefill older than those that will be met."""
    early, early_prefill, early_decode = deviations("early", again=False)
    _, prefill, decode = deviations("predictive", again=False)

    assert early is not None
    assert early < -0.2
    assert decode < 0.85 * early_decode
    assert prefill < 0.85 * early_prefill


@pytest.mark.slow
@pytest.mark.parametrize("admission", ["early", "predictive"])
def test_looking_again_when_the_prefill_has_ended_damps_it_further_and_more_is_kept(admission: str) -> None:
    (alone, _, alone_decode), (both, _, decode) = deviations(admission, again=False), deviations(admission)

    assert alone is not None
    assert both is not None
    assert alone < both - 0.1
    assert decode < 0.8 * alone_decode
    assert good(admission) > good(admission, again=False)
    assert kept(admission) > 0.9


@pytest.mark.slow
def test_on_arrival_alone_prediction_keeps_more_than_looking_at_what_is_there_now() -> None:
    assert good("predictive", again=False) > 1.2 * good("early", again=False)


@pytest.mark.slow
def test_early_and_predictive_serve_as_many_as_who_decides_last_with_fewer_prefills_in_vain() -> None:
    """With prefill to spare little more is to be gained than the work itself: ``baseline`` has somebody at hand for
    every seat that becomes free."""
    for admission in ("early", "predictive"):
        assert good(admission) > 0.9 * good("baseline")
        assert count(swing(admission)[0])["after"] < count(swing("baseline")[0])["after"]
    assert good("predictive") > good("early")


@pytest.mark.slow
def test_what_is_taken_is_nearly_always_kept() -> None:
    """Four of five of those at the limit, nearly all of the others: see ``scheduler.predictions``."""
    assert min(kept(admission) for admission in ("baseline", "early", "predictive")) > 0.9


def test_loads_are_told_as_shares_of_what_was_promised() -> None:
    times = np.arange(10.0)
    samples = [Sample(at_s, queued_s=2.0 * (at_s % 2), step_s=0.02 * (1 - at_s % 2)) for at_s in times]

    assert swings(samples, Promise(4.0, 0.04), until_s=9.0) == (-1.0, 0.25, 0.25)
    assert swings(samples[:1], Promise(4.0, 0.04), until_s=9.0) == (None, 0.0, 0.0)
