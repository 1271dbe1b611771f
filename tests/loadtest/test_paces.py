"""A simulated cluster finds out what its links carry, whatever its conductor was told."""

from collections.abc import Sequence
from functools import cache
from math import inf
from random import Random

import numpy as np
import pytest

from loadtest.offered import offered
from loadtest.request import Request
from loadtest.settings import Offer
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Simulation
from loadtest.simulator.spec import Spec
from loadtest.simulator.store import Store
from scheduler.conductor import Conductor
from scheduler.paces import StorePace
from scheduler.vocabulary import StoreId
from tests.loadtest.build import machine, spec

RATE = 2e7
"""Of every link: what is fetched takes half as long as computing it."""


def cluster(**changes: object) -> Spec:
    return spec(machine=machine(link_bytes_per_s=RATE, ssd_bytes_per_s=1e8), prefill=3, decode=3, **changes)


def asked(requests: int) -> Sequence[Request]:
    """Twelve texts of 2,000 tokens, and questions about them."""
    mix = Offer(
        workload="shared-prefix",
        requests=requests,
        rate_per_s=12.0,
        input_len=100,
        output_len=30,
        prefix_len=2000,
        prefixes=12,
        seed=1,
    )
    return list(offered(mix).requests)


def ran(told: float, *, until_s: float = inf, requests: int = 350, **changes: object) -> tuple[list[Record], Conductor]:
    conductor = Conductor(link_bytes_per_s=told)
    made = Simulation(cluster(**changes), conductor, chance=Random(0))
    records = made.run(asked(requests), until_s=until_s)
    made.check()
    return records, conductor


@cache
def told_rightly() -> tuple[list[Record], Conductor]:
    return ran(RATE)


def error(records: Sequence[Record]) -> float:
    """How far first tokens were from what was predicted, in the mean."""
    known = [(each.predicted_ttft_s, each.ttft_s) for each in records]
    return float(np.mean([abs(took - said) / said for said, took in known if said is not None and took is not None]))


def paces(conductor: Conductor) -> list[StorePace]:
    return list(conductor.snapshot().paces)


@pytest.mark.parametrize("wrong", [0.1, 10.0])
def test_a_rate_told_wrongly_is_corrected_within_seconds(wrong: float) -> None:
    _, conductor = ran(wrong * RATE, until_s=5.0)

    assert [(each.sends, each.receives) for each in paces(conductor)] == [pytest.approx((RATE, RATE), rel=1e-3)] * 6


@pytest.mark.parametrize("wrong", [0.1, 10.0])
def test_predictions_are_as_good_as_if_it_had_been_told_rightly(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rightly, corrected = error(told_rightly()[0]), error(ran(wrong * RATE)[0])
    monkeypatch.setattr(Store, "_carried", lambda _: ())
    believed = error(ran(wrong * RATE)[0])

    assert corrected < 1.5 * rightly
    assert believed > 2.0 * corrected, "what was told matters here"


def test_whoever_was_told_rightly_goes_on_believing_it() -> None:
    records, conductor = told_rightly()
    links = conductor.snapshot().accuracy.links

    assert links.count > 50
    assert links.error == pytest.approx(0.0, abs=1e-4)
    assert all(pace.sends == pytest.approx(RATE, rel=1e-4) for pace in paces(conductor))
    assert error(records) < 0.15


def test_the_pairs_of_one_slow_host_are_priced_slow_and_no_others() -> None:
    slow = StoreId("store of decode 1")
    _, conductor = ran(RATE, requests=600, slow_links=((slow, RATE / 20),))

    for pace in paces(conductor):
        if pace.store == slow:
            assert pace.receives == pytest.approx(RATE / 20, rel=0.2)
        else:
            assert pace.sends == pytest.approx(RATE, rel=0.01)
            assert pace.receives == pytest.approx(RATE, rel=0.01)


def test_reads_of_an_ssd_are_reported_as_long_as_the_disk_was_busy() -> None:
    _, conductor = ran(RATE, dram_bytes=80 * 64 * 1024, ssd_bytes=1 << 30)
    snapshot = conductor.snapshot()

    assert snapshot.accuracy.disks.count > 10
    assert min(each.reads for each in snapshot.paces) == pytest.approx(1e8, rel=1e-3), "not what was told"
