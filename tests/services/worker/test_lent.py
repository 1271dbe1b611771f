"""What the store lends is given back exactly once, and never while a job uses it."""

import asyncio
from typing import Any

import pytest

from kvstore.names import BlockName
from kvstore.vocabulary import Held, Lease, Refused, SlotRef, Write, Writing
from services.wire.errors import WireError
from services.wire.pb.store_pb2 import GRANT_WRITE, Allocated, SlotRefs
from services.wire.store_codec import acquired_to_wire, allocated_to_wire
from services.worker.lent import Leases
from services.worker.reservation import Reservation
from services.worker.store_session import StoreAway
from tests.services.worker.said import Said


def name(letter: str) -> BlockName:
    return BlockName(letter.encode() * 16)


NAMES = [name(letter) for letter in "abcde"]


def test_leases_that_are_in_use_are_released_when_the_job_ends() -> None:
    said = Said()
    leases = Leases(said.session)
    leases.add([Lease(3, 7, 0)])
    with leases.used():
        leases.close()
        assert said.all() == []
    assert said.all() == [("release", [SlotRef(3, 7)])]
    leases.close()
    assert said.all() == []


async def test_leases_are_taken_in_parts_and_given_back_part_by_part() -> None:
    said = Said()
    leases = Leases(said.session)
    waiting = asyncio.create_task(leases.next(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    leases.add([Lease(1, 1, 11), Lease(2, 1, 22), Lease(3, 1, 33)])
    assert await waiting == [Lease(1, 1, 11), Lease(2, 1, 22)]
    assert said.all() == []
    leases.release(2)
    assert said.all() == [("release", [SlotRef(1, 1), SlotRef(2, 1)])]
    assert await leases.next(2) == [Lease(3, 1, 33)]
    leases.close()
    assert said.all() == [("release", [SlotRef(3, 1)])]


async def test_whoever_waits_for_leases_is_told_when_no_more_will_come() -> None:
    leases = Leases(Said().session)
    waiting = asyncio.create_task(leases.next(2))
    await asyncio.sleep(0)
    leases.complete()
    assert await waiting == []
    assert leases.granted == 0


def test_leases_that_come_after_the_end_go_back_at_once() -> None:
    said = Said()
    leases = Leases(said.session)
    leases.close()
    leases.add([Lease(1, 1, 0), Lease(2, 1, 0)])
    assert said.all() == [("release", [SlotRef(1, 1), SlotRef(2, 1)])]
    assert leases.held == []


async def test_a_handoff_holds_what_is_sealed_and_discards_what_is_not() -> None:
    said = Said()
    handoff = Reservation(said.session, NAMES, last_is_short=True, hold=True)
    await asked(handoff, said, [Held(0, 5), Write(1, 1), Writing(), Refused(), Write(4, 2)])
    assert handoff.unwritten == [NAMES[1], NAMES[4]]
    assert handoff.claim(NAMES[0]) is None
    claimed = handoff.claim(NAMES[1])
    assert claimed is not None
    assert claimed.ref == SlotRef(1, 1)
    assert handoff.claim(NAMES[1]) is None, "one writer only"
    handoff.seal([(NAMES[1], 99)])
    assert said.all() == [("seal", [SlotRef(1, 1)])]
    handoff.close()
    assert said.all() == [("discard", [SlotRef(4, 2)]), ("release", [SlotRef(0, 5), SlotRef(1, 1)])]
    handoff.close()
    assert said.all() == []


async def test_a_publication_holds_nothing_and_takes_no_room_for_the_name_before_it() -> None:
    said = Said()
    publication = Reservation(said.session, NAMES[1:3], after=NAMES[0])
    await asked(publication, said, [Write(9, 1), Write(1, 1), Held(2, 1)])
    assert said.all() == [("discard", [SlotRef(9, 1)])]
    assert publication.claim(NAMES[1]) is not None
    publication.seal([(NAMES[1], 5)])
    publication.close()
    assert said.all() == [("seal", [SlotRef(1, 1)])]


async def test_a_slot_that_is_being_written_is_given_back_only_after_the_job() -> None:
    said = Said()
    handoff = Reservation(said.session, NAMES[:1], hold=True)
    await asked(handoff, said, [Write(1, 1)])
    with handoff.used():
        assert handoff.claim(NAMES[0]) is not None
        handoff.close()
        assert handoff.claim(NAMES[0]) is None
        assert said.all() == []
    assert said.all() == [("discard", [SlotRef(1, 1)])]


async def test_grants_that_come_after_the_end_go_back_at_once() -> None:
    said = Said()
    handoff = Reservation(said.session, NAMES[:2], hold=True)
    handoff.close()
    await asked(handoff, said, [Write(1, 1), Held(2, 3)])
    assert said.all() == [("discard", [SlotRef(1, 1)]), ("release", [SlotRef(2, 3)])]


async def test_when_a_session_ends_everybody_who_waits_is_told_and_nothing_is_said_any_more() -> None:
    said = Said()
    handoff = Reservation(said.session, NAMES, hold=True)
    waiting = asyncio.create_task(handoff.ask())
    await asyncio.sleep(0)
    said.all()
    said.session.end()
    with pytest.raises(StoreAway):
        await waiting
    with pytest.raises(StoreAway):
        await said.session.acquire(NAMES, deadline_s=1.0, leased=lambda leases: None)
    handoff.close()
    assert said.all() == []


async def asked(reservation: Reservation, said: Said, grants: list[Any]) -> None:
    """The reservation asks, and the store answers."""
    asking = asyncio.create_task(reservation.ask())
    await asyncio.sleep(0)
    ((kind, _),) = said.all()
    assert kind == "allocate"
    said.answer(1, allocated=allocated_to_wire(grants))
    await asking


async def test_leases_come_in_parts_and_the_wait_ends_with_the_last() -> None:
    said = Said()
    leases = Leases(said.session)
    asking = asyncio.create_task(said.session.acquire(NAMES, deadline_s=1.0, leased=leases.add))
    await asyncio.sleep(0)
    said.answer(1, acquired=acquired_to_wire([Lease(1, 1, 11)], done=False))
    said.answer(1, acquired=acquired_to_wire([Lease(2, 1, 22)], done=False))
    await asyncio.sleep(0)
    assert not asking.done()
    said.answer(1, acquired=acquired_to_wire([], done=True))
    await asking
    assert leases.held == [Lease(1, 1, 11), Lease(2, 1, 22)]


async def test_leases_that_come_after_their_request_has_left_go_back_at_once() -> None:
    said = Said()
    leases = Leases(said.session)
    asking = asyncio.create_task(said.session.acquire(NAMES, deadline_s=1.0, leased=leases.add))
    await asyncio.sleep(0)
    asking.cancel()
    leases.close()
    await asyncio.wait([asking])
    said.all()
    said.answer(1, acquired=acquired_to_wire([Lease(1, 1, 11)], done=False))
    said.answer(1, acquired=acquired_to_wire([Lease(2, 1, 22)], done=True))
    assert said.all() == [("release", [SlotRef(1, 1)]), ("release", [SlotRef(2, 1)])]


async def test_a_store_that_does_not_answer_in_time_is_given_up() -> None:
    said = Said(answer_s=0.01)
    with pytest.raises(StoreAway, match="did not answer"):
        await said.session.acquire(NAMES, deadline_s=0.0, leased=lambda leases: None)
    assert not said.session.live


async def test_a_store_that_misses_a_deadline_is_gone_though_its_asker_has_left() -> None:
    said = Said(answer_s=0.01)
    asking = asyncio.create_task(said.session.acquire(NAMES, deadline_s=0.0, leased=lambda leases: None))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait_for(said.session.ended.wait(), 10.0)


async def test_an_answer_in_time_keeps_the_session() -> None:
    said = Said(answer_s=0.01)
    asking = asyncio.create_task(said.session.acquire(NAMES, deadline_s=0.0, leased=lambda leases: None))
    await asyncio.sleep(0)
    said.answer(1, acquired=acquired_to_wire([], done=True))
    await asking
    later = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.05, later.set_result, None)
    await later
    assert said.session.live


def test_a_store_that_does_not_read_is_given_up() -> None:
    said = Said()
    said.session.release([SlotRef(0, 1)])
    assert said.session.live
    said.keeps_up = False
    said.session.release([SlotRef(0, 1)])
    assert not said.session.live


async def test_answers_that_no_correct_store_gives_are_refused() -> None:
    said = Said()
    handoff = Reservation(said.session, NAMES, hold=True)
    asking = asyncio.create_task(handoff.ask())
    await asyncio.sleep(0)
    with pytest.raises(WireError, match="2 grants came for 5 names"):
        said.answer(1, allocated=allocated_to_wire([Refused(), Refused()]))
    lopsided = SlotRefs(slots=[1, 2], generations=[1])
    with pytest.raises(WireError, match="2 slots came with 1 generations"):
        said.answer(1, allocated=Allocated(grants=[GRANT_WRITE] * 2, slots=lopsided))
    said.answer(77, acquired=acquired_to_wire([], done=True))  # of a call that nobody made: ignored
    said.session.end()
    with pytest.raises(StoreAway):
        await asking
