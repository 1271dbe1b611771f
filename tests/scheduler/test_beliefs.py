"""What the conductor believes: reports in any order and number, bookings, silence."""

from collections.abc import Sequence

import pytest

from kvstore.digest import digest_of
from kvstore.names import BlockName
from kvstore.vocabulary import IdentityMismatch
from scheduler.beliefs import Beliefs, Booking
from scheduler.vocabulary import Digests, RequestId, Resync, Role, StoreId, WorkerId
from tests.scheduler.build import OTHER, names, prompt, store_report, worker_report

W, S, R = WorkerId("w"), StoreId("s"), RequestId("r")
CHAIN = names(prompt(20))


def beliefs() -> Beliefs:
    return Beliefs(report_ttl_s=1.5)


def held(known: Beliefs) -> int:
    return known.prefixes.lengths(CHAIN).get(S, 0)


def seen(known: Beliefs, worker: str, *columns: str) -> list[float]:
    """What a placement reads of this worker."""
    row = known.worker_table.rows[known.worker_table.row(WorkerId(worker))]
    return [float(row[column]) for column in columns]


ALL = ("queue_s", "sequences", "kv_tokens", "blocks_free")

# -- identity ---------------------------------------------------------------------------------------------------------


def test_the_first_reporter_says_which_deployment_this_is_and_others_are_refused() -> None:
    known = beliefs()
    known.worker_reported(worker_report("w"), now=0)

    with pytest.raises(IdentityMismatch, match="model weights bb instead of aa"):
        known.worker_reported(worker_report("other", identity=OTHER), now=0)
    with pytest.raises(IdentityMismatch, match="model weights bb instead of aa"):
        known.store_reported(store_report(identity=OTHER), now=0)
    assert list(known.workers) == [W]
    assert known.stores == {}


def test_a_store_without_a_worker_yet_fits_everywhere() -> None:
    known = beliefs()
    known.store_reported(store_report(identity=None), now=0)
    known.worker_reported(worker_report("w", identity=OTHER), now=0)

    assert known.identity == OTHER


def test_when_nobody_lives_another_deployment_may_begin() -> None:
    known = beliefs()
    known.worker_reported(worker_report("w"), now=0)

    known.worker_reported(worker_report("other", identity=OTHER), now=10)
    assert known.identity == OTHER
    known.expire(now=20)
    assert known.identity is None


# -- workers ----------------------------------------------------------------------------------------------------------


def test_a_late_report_of_the_same_life_is_ignored() -> None:
    known = beliefs()
    known.worker_reported(worker_report("w", sequence=5, running=3), now=0)
    known.worker_reported(worker_report("w", sequence=4, running=1), now=1)

    assert known.workers[W].report.running == 3
    assert known.workers[W].heard_s == 0


def test_a_restarted_worker_replaces_what_was_believed_of_it_and_its_ghost_is_ignored() -> None:
    known = beliefs()
    known.worker_reported(worker_report("w", sequence=90, incarnation=77), now=0)
    known.book(R, {W: Booking(expires_s=100, seats=1)})

    known.worker_reported(worker_report("w", sequence=1, incarnation=5), now=1)
    assert known.workers[W].bookings == {}
    known.worker_reported(worker_report("w", sequence=91, incarnation=77), now=1)
    assert known.workers[W].report.incarnation == 5


def test_who_is_silent_is_forgotten() -> None:
    known = beliefs()
    known.worker_reported(worker_report("w"), now=0)
    known.store_reported(store_report(snapshot=True, gained=CHAIN), now=1)

    known.expire(now=2)
    assert W not in known.workers
    assert held(known) == 5
    known.expire(now=3)
    assert held(known) == 0


# -- stores -----------------------------------------------------------------------------------------------------------


def test_a_store_is_known_after_a_snapshot_and_followed_by_deltas() -> None:
    known = beliefs()

    assert known.store_reported(store_report(sequence=7, gained=CHAIN[1:2]), now=0)
    assert not known.store_reported(store_report(sequence=8, snapshot=True, gained=CHAIN[:3]), now=0)
    assert held(known) == 3
    assert not known.store_reported(store_report(sequence=9, gained=CHAIN[3:], lost=CHAIN[1:2]), now=0)
    assert held(known) == 1


def test_a_gap_asks_for_a_snapshot_until_one_comes() -> None:
    known = beliefs()
    known.store_reported(store_report(sequence=1, snapshot=True, gained=CHAIN[:2]), now=0)

    assert known.store_reported(store_report(sequence=3, gained=CHAIN[2:3]), now=0)
    assert known.store_reported(store_report(sequence=4), now=0)
    assert known.store_reported(store_report(sequence=4), now=0)
    assert not known.store_reported(store_report(sequence=5, snapshot=True, gained=CHAIN[:1]), now=0)
    assert not known.store_reported(store_report(sequence=6), now=0)
    assert held(known) == 1


def test_a_report_that_comes_twice_changes_nothing() -> None:
    known = beliefs()
    known.store_reported(store_report(sequence=1, snapshot=True, gained=CHAIN), now=0)
    known.store_reported(store_report(sequence=2, lost=CHAIN[2:]), now=0)

    assert not known.store_reported(store_report(sequence=1, snapshot=True, gained=CHAIN), now=0)
    assert held(known) == 2


def digests(*dram: BlockName, ssd: Sequence[BlockName] = ()) -> Digests:
    return Digests(digest_of(dram), digest_of(ssd))


def test_a_change_that_was_dropped_in_silence_is_found_by_the_next_digest() -> None:
    known = beliefs()
    known.store_reported(store_report(sequence=1, snapshot=True, gained=CHAIN[:3], digests=digests(*CHAIN[:3])), now=0)
    lost_on_the_way = store_report(sequence=2)  # it should have told of CHAIN[3], and is numbered as if it had

    assert known.store_reported(lost_on_the_way, now=0) is None
    assert known.store_reported(store_report(sequence=3, digests=digests(*CHAIN[:4])), now=0) is Resync.DRIFT
    assert known.store_reported(store_report(sequence=4), now=0) is Resync.DRIFT  # until a snapshot comes
    assert known.drifts == 1
    healed = store_report(sequence=5, snapshot=True, gained=CHAIN[:4], digests=digests(*CHAIN[:4]))
    assert known.store_reported(healed, now=0) is None
    assert (held(known), known.drifts) == (4, 1)


def test_a_belief_that_went_wrong_here_is_found_in_either_tier() -> None:
    for ssd in (False, True):
        known = beliefs()
        known.store_reported(store_report(sequence=1, snapshot=True, gained=CHAIN[:3], ssd_gained=CHAIN[:2]), now=0)
        told = digests(*CHAIN[:3], ssd=CHAIN[:2])
        assert known.store_reported(store_report(sequence=2, digests=told), now=0) is None
        known.prefixes.lost(StoreId("s"), CHAIN[:1], ssd=ssd)

        assert known.store_reported(store_report(sequence=3, digests=told), now=0) is Resync.DRIFT


def test_behind_a_gap_a_digest_says_nothing() -> None:
    known = beliefs()
    known.store_reported(store_report(sequence=1, snapshot=True, gained=CHAIN[:3]), now=0)

    assert known.store_reported(store_report(sequence=3, digests=digests(*CHAIN)), now=0) is Resync.GAP
    assert known.drifts == 0


def test_a_restarted_store_is_empty_until_it_says_otherwise() -> None:
    known = beliefs()
    known.store_reported(store_report(sequence=9, incarnation=4, snapshot=True, gained=CHAIN), now=0)

    assert known.store_reported(store_report(sequence=1, incarnation=2), now=0)
    assert held(known) == 0
    assert not known.store_reported(store_report(sequence=10, incarnation=4, gained=CHAIN), now=0)
    assert held(known) == 0


# -- bookings ---------------------------------------------------------------------------------------------------------


def test_a_booking_stands_until_the_worker_lists_the_request() -> None:
    known = beliefs()
    known.worker_reported(worker_report("w", sequence=1, running=1, kv_tokens=10, blocks_free=50), now=0)
    known.book(R, {W: Booking(expires_s=9, prefill_s=0.5, seats=1, kv_tokens=100, blocks=26)})
    assert seen(known, "w", *ALL) == [0.5, 2, 110, 24]

    known.worker_reported(worker_report("w", sequence=2, running=1, kv_tokens=10, blocks_free=50), now=0.1)
    assert seen(known, "w", "sequences") == [2]  # that report was on its way when the request was not yet there
    known.worker_reported(worker_report("w", sequence=3, running=2, kv_tokens=110, blocks_free=24, live=["r"]), now=0.2)
    assert seen(known, "w", *ALL) == [0.0, 2, 110, 24]


def test_bookings_end_with_an_outcome_or_with_their_time() -> None:
    known = beliefs()
    for name, role in (("p", Role.PREFILL), ("d", Role.DECODE)):
        known.worker_reported(worker_report(name, role), now=0)
    for request in ("x", "y"):
        known.book(
            RequestId(request),
            {WorkerId("p"): Booking(expires_s=1, prefill_s=0.5), WorkerId("d"): Booking(expires_s=1, seats=1)},
        )

    def now() -> list[float]:
        return seen(known, "p", "queue_s") + seen(known, "d", "sequences")

    known.handed_over(RequestId("x"))
    assert now() == [0.5, 2]
    known.unbook(RequestId("x"))
    known.unbook(RequestId("x"))
    assert now() == [0.5, 1]
    known.expire(now=1)
    assert now() == [0.0, 0]


def test_a_request_that_is_placed_again_is_booked_once() -> None:
    known = beliefs()
    for name in "ab":
        known.worker_reported(worker_report(name), now=0)
    known.book(R, {WorkerId("a"): Booking(expires_s=9, seats=1)})
    known.book(R, {WorkerId("b"): Booking(expires_s=9, seats=1)})

    assert [seen(known, name, "sequences") for name in "ab"] == [[0], [1]]


def test_queued_prompts_are_priced_as_equally_long_ones() -> None:
    known = beliefs()
    known.worker_reported(worker_report("w", queued=3000, waiting=3), now=0)

    profile = known.workers[W].report.profile
    each = profile.prefill_s[0] + profile.prefill_s[1] * 1000 + profile.prefill_s[2] * 1000**2
    assert seen(known, "w", "queue_s") == [pytest.approx(3 * each)]
