"""Workers change their roles when that is worth it, one at a time, and never to and fro."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.conductor import Conductor
from scheduler.roles import COOL_DOWN_S, SUSTAINED_S, Balance, Pools
from scheduler.vocabulary import Decision, Placement, Role, WorkerId
from tests.scheduler.build import ask, store_report, worker_report

P, D = Role.PREFILL, Role.DECODE


def test_a_pool_must_be_short_for_a_while_and_the_other_must_have_plenty() -> None:
    balance, lopsided = Balance(), Pools(1.5, 0.1, 2, 2)

    assert balance.wanted(lopsided, now=0) is None
    assert balance.wanted(lopsided, now=SUSTAINED_S - 1) is None
    assert balance.wanted(lopsided, now=SUSTAINED_S) is P
    # The last one would be as short as the other is now: it would be a change to and fro.
    for pools in (Pools(1.5, 0.5, 2, 2), Pools(0.7, 0.1, 2, 2), Pools(1.5, 0.1, 2, 1), Pools(1.5, 0.4, 2, 2)):
        balance = Balance()
        assert [balance.wanted(pools, now=10.0 * moment) for moment in range(20)] == [None] * 20


def test_a_burst_changes_nothing() -> None:
    balance = Balance()
    for moment in range(100):
        assert balance.wanted(Pools(3.0 if moment % 9 else 0.1, 0.1, 4, 4), now=float(moment)) is None


def test_after_a_change_it_cools_down() -> None:
    balance = Balance()
    changes = [now for now in range(200) if balance.wanted(Pools(0.1, 2.0, 9, 9), now=float(now)) is D]

    assert changes[0] == SUSTAINED_S
    assert all(later - before >= COOL_DOWN_S for before, later in pairwise(changes))
    assert len(changes) >= 3


loads = st.floats(0, 3)


@given(st.lists(st.tuples(loads, loads, st.floats(0.1, 20)), max_size=80), st.integers(0, 4), st.integers(0, 4))
def test_no_pool_is_emptied_and_changes_are_apart(
    story: list[tuple[float, float, float]], prefills: int, decodes: int
) -> None:
    balance, now, last = Balance(), 0.0, -COOL_DOWN_S
    before = (prefills, decodes)
    for prefill, decode, seconds in story:
        now += seconds
        wanted = balance.wanted(Pools(prefill, decode, prefills, decodes), now=now)
        if wanted is not None:
            assert now - last >= COOL_DOWN_S
            prefills, decodes, last = (
                (prefills + 1, decodes - 1, now) if wanted is P else (prefills - 1, decodes + 1, now)
            )
    assert prefills >= min(1, before[0])
    assert decodes >= min(1, before[1])


@pytest.mark.parametrize("seed", range(30))
def test_under_noisy_loads_workers_go_one_way_and_stay_there(seed: int) -> None:
    """Demand that does not change, in worker's worths, and loads that jump by a third up or down with every look."""
    chance = Random(seed)
    work, decoding = chance.uniform(0.1, 6.0), chance.uniform(0.1, 6.0)
    prefills, decodes, ways = chance.randint(1, 6), chance.randint(1, 6), []
    balance = Balance()
    for moment in range(2 * 3600):
        noisy = [load * chance.uniform(0.67, 1.33) for load in (work / prefills, decoding / decodes)]
        wanted = balance.wanted(Pools(noisy[0], noisy[1], prefills, decodes), now=float(moment))
        if wanted is not None:
            ways.append(wanted)
            prefills, decodes = (prefills + 1, decodes - 1) if wanted is P else (prefills - 1, decodes + 1)
    assert len(set(ways)) <= 1
    assert len(ways) <= 5


def test_a_load_that_swings_faster_than_it_lasts_changes_nothing() -> None:
    balance = Balance()
    for moment in range(3600):
        swing = moment // (SUSTAINED_S - 1) % 2
        assert balance.wanted(Pools(*((2.0, 0.1) if swing else (0.1, 2.0)), 4, 4), now=float(moment)) is None


# -- the conductor ----------------------------------------------------------------------------------------------------


def told(
    *,
    elastic: bool = True,
    advises: bool = False,
    queued: int = 9000,
    running: int = 0,
    placed: int = 0,
    blocks_free: int = 2000,
    draining: str = "",
    obeys: bool = True,
    seconds: int = 30,
) -> tuple[Conductor, list[dict[str, Role]]]:
    """Two workers of each role report every second; what each is told, by second. placed: requests, none begun.
    blocks_free: at each decode worker, of 2,000. obeys: who is told to change does."""
    made, answers = Conductor(elastic=elastic, advises=advises), []
    roles = {"p0": P, "p1": P, "d0": D, "d1": D}
    for now in range(1, seconds + 1):
        told_now = {}
        made.store_reported(store_report(sequence=now, snapshot=True), now=now)
        for name, role in roles.items():
            tokens, sequences = (queued, 0) if role is P else (0, running + (name == "d0"))
            report = worker_report(
                name,
                role,
                sequence=now,
                queued=tokens,
                waiting=1 if tokens else 0,
                running=sequences,
                blocks_free=2000 if role is P else blocks_free,
                draining=name == draining,
            )
            made.worker_reported(report, now=now)
            if name == "d1" and now == 1:
                for number in range(placed):
                    assert isinstance(made.place(ask(f"{number}", tokens=500), now=now), Placement)
            directive = made.directive(WorkerId(name), now=now)
            if directive is not None:
                told_now[name] = directive
        if obeys:
            roles |= told_now
        answers.append(told_now)
        made.tick(now=now)
    return made, answers


def test_the_idlest_worker_of_the_pool_that_has_plenty_is_told_to_change_once() -> None:
    made, answers = told()

    assert [answer for answer in answers if answer] == [{"d1": P}]
    assert made.snapshot().role_changes == 1
    made, answers = told(queued=0, running=8)
    assert [answer for answer in answers if answer] == [{"p0": D}]


def test_who_waits_for_a_prefill_does_not_make_decode_workers_look_busy() -> None:
    """Its seat is booked for minutes while prefill is short: two decode workers that idle, with every seat promised."""
    made, answers = told(placed=16)

    assert made.snapshot().decisions == {Decision.HANDED_OVER: 16}
    assert [answer for answer in answers if answer] == [{"d1": P}]


def test_nobody_is_told_to_change_unless_the_operator_allows_it() -> None:
    assert not any(told(elastic=False)[1])
    assert not any(told(queued=0)[1])


def test_it_says_why_even_where_nobody_is_told() -> None:
    for elastic in (True, False):
        made, answers = told(elastic=elastic, advises=not elastic)
        advices, why = made.role_advice
        assert (any(answers), made.snapshot().role_changes) == (elastic, int(elastic))
        assert advices == 1
        assert "d1 becomes a prefill worker" in why
        assert "prefill pool has been" in why


def test_a_decode_pool_whose_blocks_are_taken_has_nothing_to_give() -> None:
    assert any(told(blocks_free=1500)[1])
    assert not any(told(blocks_free=1000)[1])


def test_who_is_shutting_down_is_of_no_pool() -> None:
    """The one decode worker that stays has to."""
    assert not any(told(draining="d0")[1])


def test_who_does_not_do_as_it_is_told_is_not_told_for_ever() -> None:
    _, answers = told(obeys=False, seconds=int(SUSTAINED_S + COOL_DOWN_S))

    assert answers.count({"d1": P}) == pytest.approx(COOL_DOWN_S / 2, abs=1)
    assert answers[-1] == {}


def tell(
    conductors: Sequence[Conductor], roles: dict[str, Role], *, queued: int, now: float, incarnation: int = 1
) -> None:
    """Everybody reports to all, one conductor after the other, and does what the first that tells it says.

    They look half a second apart, so that the later one has heard what the earlier one has done.
    """
    for name, role in list(roles.items()):
        tokens = queued if role is P else 0
        report = worker_report(
            name, role, sequence=round(10 * now), queued=tokens, waiting=1 if tokens else 0, incarnation=incarnation
        )
        for made in conductors:
            made.worker_reported(report, now=now)
            roles[name] = made.directive(WorkerId(name), now=now) or roles[name]
    for place, made in enumerate(conductors):
        made.store_reported(store_report(sequence=round(10 * now), snapshot=True), now=now)
        if round(10 * now) % 10 == 5 * place:
            made.tick(now=now)


def test_two_conductors_make_one_change_though_only_one_of_them_is_asked() -> None:
    """The one that is asked has booked seats for who is still to be prefilled, more of them at the first worker."""
    conductors, roles = (
        [Conductor(elastic=True), Conductor(elastic=True)],
        {"p0": P, "p1": P, "d0": D, "d1": D, "d2": D},
    )
    tell(conductors, roles, queued=9000, now=1.0)
    for number in range(4):
        assert isinstance(conductors[0].place(ask(f"{number}", tokens=500), now=1.0), Placement)
    for tenth in range(11, 11 + round(10 * (SUSTAINED_S + COOL_DOWN_S))):
        tell(conductors, roles, queued=9000, now=tenth / 10)

    assert sorted(roles.values()) == [D, D, P, P, P]


@pytest.mark.parametrize(("others", "turned"), [({}, 1), ({"m": Role.MIXED}, 0)])
def test_a_pool_that_has_lost_everybody_gets_a_worker_of_the_other(others: dict[str, Role], turned: int) -> None:
    """Unless somebody is there who does both. The first SUSTAINED_S may be those of a restart."""
    made, roles = Conductor(elastic=True), {"d0": D, "d1": D, **others}
    tell([made], {"p0": P, **roles}, queued=0, now=1.0)
    for second in range(2, 30):
        tell([made], roles, queued=0, now=float(second))

    assert list(roles.values()).count(P) == turned


def test_a_worker_that_was_started_again_in_another_role_has_not_changed_it() -> None:
    """An operator's doing: no reason to rest for a minute."""
    made, roles = Conductor(elastic=True), {"p0": P, "p1": P, "d0": D, "d1": D}
    tell([made], {**roles, "p1": D}, queued=9000, now=1.0)
    for second in range(2, 20):
        tell([made], roles, queued=9000, now=float(second), incarnation=2)

    assert sorted(roles.values()) == [D, P, P, P]


def test_a_pool_that_never_had_a_worker_misses_none() -> None:
    made, roles = Conductor(elastic=True), {"d0": D, "d1": D}
    for second in range(1, 60):
        tell([made], roles, queued=0, now=float(second))

    assert set(roles.values()) == {D}
