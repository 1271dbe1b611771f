"""A crowd that is refused and waits as it was told: in which order it is taken, and at which try."""

from random import Random

import pytest

from loadtest.request import Request, Span
from loadtest.simulator.disturbed import Disturbed
from loadtest.simulator.patience import Patience
from loadtest.simulator.record import Record
from scheduler.vocabulary import Profile, Promise
from tests.loadtest.build import machine, simulation, spec

LAPTOP = Profile(prefill_s=(0.003, 0.0006, 2e-8), step_s=(0.02, 0.001, 0.0), transfer_s=(0.0, 0.0))
CROWD = 120
EXACT = Disturbed()
SLOWER = Disturbed(factor=1.1, spread=0.1)


def run(
    admission: str,
    *,
    promise: Promise = Promise(3.0),  # noqa: B008 - a value
    disturbed: Disturbed = SLOWER,
    patience: Patience = Patience(tries=8, lag_s=0.005),  # noqa: B008
    tokens: tuple[int, int] = (50, 400),
    answer: int = 30,
    seats: int = 256,
    newcomers: float = 0.0,
    workers: int = 1,
) -> list[Record]:
    """Of the crowd: all within half a second. newcomers: a second, for half a minute."""
    chance = Random(1)
    cluster = spec(
        machine=machine(profile=LAPTOP, device_tokens=4000 * 64, dram_bytes=4000 * 64 * 1024),
        prefill=workers,
        decode=workers,
        disturbed=disturbed,
        max_num_seqs=seats,
        max_new_tokens=answer,
    )
    world = simulation(cluster, admission=admission, promise=promise, inline_max_tokens=0, queue_s=3.0)
    times = [0.5 * chance.random() for _ in range(CROWD)]
    while newcomers and times[-1] < 30.0:
        times.append((0.0 if len(times) == CROWD else times[-1]) + chance.expovariate(newcomers))
    requests = [
        Request(at_s, (Span(2 * place, round(chance.uniform(*tokens))),), Span(2 * place + 1, answer))
        for place, at_s in enumerate(times)
    ]
    records = world.run(requests, patience=patience)
    world.check()
    return records[:CROWD]


def second(records: list[Record]) -> float:
    """The share of those that were refused at first that were taken at their second try."""
    refused = [record for record in records if record.told_s]
    assert len(refused) > CROWD / 4
    return sum(len(record.told_s) == 1 and record.ended_s is not None for record in refused) / len(refused)


def out_of_order(records: list[Record]) -> float:
    """The share of pairs that were taken in another order than that in which they were told to come."""
    back = sorted((record for record in records if record.told_s and record.ended_s), key=lambda each: each.told_s[0])
    pairs = [(one, other) for place, one in enumerate(back) for other in back[place + 1 :]]
    return sum(one.asked_s > other.asked_s for one, other in pairs) / len(pairs)


def in_time(records: list[Record], ttft_s: float) -> float:
    served = [record.ttft_s for record in records if record.ended_s is not None]
    return sum(each is not None and each <= ttft_s for each in served) / len(served)


@pytest.mark.parametrize("admission", ["queue", "baseline", "early", "predictive"])
def test_a_crowd_that_waits_as_told_is_taken_at_its_second_try_in_the_order_told(admission: str) -> None:
    """On machines a tenth slower than they were measured. Before turns: 2 of 106, and 94 never in eight tries."""
    records = run(admission)

    assert second(records) >= 0.9
    assert out_of_order(records) <= 0.02
    assert all(record.ended_s is not None for record in records)
    assert in_time(records, 3.0) >= 0.97


def test_where_predictions_are_right_all_are_taken_then_and_no_later_than_they_can_be() -> None:
    records = run("early", disturbed=EXACT)
    work_s = sum(0.003 + 0.0006 * record.input_tokens for record in records)

    assert second(records) == 1.0
    assert out_of_order(records) == 0.0
    assert max(record.ended_s or 0.0 for record in records) < 1.1 * work_s + 1.5  # answers take 0.7 s


def test_clients_that_read_whole_seconds_are_taken_as_well() -> None:
    assert second(run("early", patience=Patience(tries=8, whole_seconds=True))) >= 0.9


def test_requests_that_cannot_be_told_apart_take_the_turns_of_one_another() -> None:
    """All of one length, and shorter than a block: their names are all the same, none."""
    records = run("early", tokens=(60, 60), promise=Promise(2.0))

    assert second(records) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("admission", ["queue", "baseline", "early", "predictive"])
def test_newcomers_do_not_take_what_was_promised_to_the_crowd(admission: str) -> None:
    assert second(run(admission, newcomers=2.0)) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("admission", ["baseline", "early", "predictive"])
def test_where_decodes_are_short_a_crowd_is_spaced_by_the_seats_that_become_free(admission: str) -> None:
    records = run(admission, promise=Promise(3.0, 0.06), seats=16, answer=200)

    assert second(records) >= 0.8
    assert out_of_order(records) <= 0.2


@pytest.mark.slow
def test_a_pool_of_workers_is_one_queue() -> None:
    assert second(run("early", workers=3, tokens=(100, 1200))) >= 0.8
