"""Whatever a peer does, or a network: nothing wrong is called whole, no slot is written that was not granted,
every call ends with a reason, and threads, sockets and memory are given back."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.frames import Declined, Done, End, Frame, Grant, Granted, Lane, Offer, Release, Sealed, Slices, Want
from kvstore.framing import encode
from kvstore.layout import Identity
from kvstore.tcp import TcpTransfer
from kvstore.tcp_calls import region
from kvstore.tcp_sides import join_address
from kvstore.transfer import Reason
from kvstore.vocabulary import Peer
from tests.kvstore import stores
from tests.kvstore.builders import IDENTITY, LAYOUT, names
from tests.kvstore.stores import Told, ends
from tests.kvstore.stranger import accepted, calling, listening

WHOLE = range(LAYOUT.layers)
SIZE = LAYOUT.block_bytes


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Neither threads nor descriptors, and views of the arena go without the garbage collector."""
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def reason(told: Told) -> Reason | None:
    failure = told.end()
    return None if failure is None else failure.reason


def push(here: stores.End, peer: Peer, text: str = "a", deadline_s: float = 5) -> tuple[Any, Told]:
    told = Told()
    flow = here.transfer.push(peer, names(text), last_is_short=False, deadline_s=deadline_s, events=told)
    return flow, told


def fetch(here: stores.End, peer: Peer, text: str, slots: list[int], deadline_s: float = 5) -> Told:
    told = Told()
    here.transfer.fetch(peer, names(text), slots, deadline_s=deadline_s, events=told)
    return told


def slices(call: int, position: int, data: bytes, layers: range = WHOLE) -> bytes:
    return encode(Slices(call, (position,), layers.start, len(layers), len(data))) + data


def whole(here: stores.End, slot: int) -> tuple[bytes, int]:
    """A block's bytes and checksum."""
    checksum = here.fill(slot)
    return here.block(slot), checksum


# Who can't be reached, or should not be


def test_nobody_answers(tmp_path: Path) -> None:
    with listening() as gone:
        address = join_address(*gone.getsockname())
    with ends(tmp_path, "here") as (here,):
        for where in (address, "nowhere", "127.0.0.1:99999", ":80"):
            assert reason(push(here, Peer("there", where))[1]) == "away"
            assert reason(fetch(here, Peer("there", where), "a", [0])) == "away"


def test_another_store_answers_than_was_asked_for(tmp_path: Path) -> None:
    with ends(tmp_path) as (here, there):
        failure = push(here, Peer("elsewhere", there.peer.address))[1].end()
        assert failure is not None
        assert failure.reason == "refused"
        assert failure.sentence == f"{there.peer.address} is there, not elsewhere"


def test_a_store_of_another_deployment_is_refused_with_what_differs(tmp_path: Path) -> None:
    other = Identity("toy", "w2", "float32", 4, LAYOUT.digest)
    (tmp_path / "other").mkdir()
    with ends(tmp_path, "here") as (here,), ends(tmp_path / "other", "there", identity=other) as (there,):
        failure = push(here, there.peer)[1].end()
        assert failure is not None
        assert failure.reason == "refused"
        assert "model weights w1 instead of w2" in failure.sentence


def test_whoever_speaks_something_else_is_told_and_left(tmp_path: Path) -> None:
    old = bytearray(encode(Release(1)))
    old[4] = 7
    with ends(tmp_path, "here") as (here,):
        for said, sentence in (
            (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" + bytes(30), "no store's transfer connection"),
            (bytes(old), "version 7 instead of 2"),
            (encode(Release(1)), "begins with Hello"),
        ):
            with calling(here.peer.address, None) as stranger:
                stranger.say(said)
                answer = stranger.hear()
                assert isinstance(answer, Declined)
                assert sentence in answer.reason
                assert stranger.is_left()
        assert here.host.calls.empty()


def test_whoever_says_nothing_is_left(tmp_path: Path) -> None:
    with ends(tmp_path, "here", stall_s=0.05) as (here,), calling(here.peer.address, None) as stranger:
        assert stranger.is_left()


def test_only_so_many_may_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.tcp.CONNECTIONS", 1)
    with (
        ends(tmp_path, "here") as (here,),
        calling(here.peer.address, Lane.PUSH, "first"),
        calling(here.peer.address, None) as second,
    ):
        assert second.is_left()


# What a sender may not do


BLOCK = bytes(range(256)) * (SIZE // 256) + bytes(SIZE % 256)
WRONG: dict[str, Callable[[], list[Frame | bytes]]] = {
    "a block that was not granted": lambda: [slices(1, 1, BLOCK)],
    "a block beyond the offer": lambda: [slices(1, 3, BLOCK)],
    "a block that is done": lambda: [slices(1, 0, BLOCK), Done(1, (0,), (1,)), slices(1, 0, BLOCK)],
    "a done block again": lambda: [slices(1, 0, BLOCK), Done(1, (0,), (1,)), Done(1, (0,), (1,))],
    "a call that does not exist": lambda: [slices(2, 0, BLOCK)],
    "more bytes than the layer has": lambda: [slices(1, 0, BLOCK + b"x")],
    "fewer bytes than the layer has": lambda: [slices(1, 0, BLOCK[:-1])],
    "a layer that does not exist": lambda: [slices(1, 0, BLOCK, range(1, 4))],
    "no layer at all": lambda: [slices(1, 0, b"", range(1, 1))],
    "the same call again": lambda: [Offer(1, tuple(names("a")), False)],
    "what only receivers say": lambda: [Sealed(1, (0,), (True,))],
    "what only fetches say": lambda: [Want(2, tuple(names("a")), 1.0)],
    "a greeting in the middle": lambda: [Declined("no")],
    "the end of a fetch": lambda: [End(1, "")],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_sender_that_does_what_it_may_not_is_left_and_writes_nowhere_else(tmp_path: Path, wrong: str) -> None:
    with ends(tmp_path, "here", slots=4) as (here,), calling(here.peer.address) as stranger:
        others = [here.fill(slot) and here.slot(slot) for slot in (0, 1, 3)]
        stranger.say(Offer(1, tuple(names("abc")), False))
        call = here.host.called()
        call.flow.grant([Grant.RESERVED, Grant.HELD, Grant.REFUSED], [2, None, None])
        assert isinstance(stranger.hear(), Granted)
        stranger.say(*WRONG[wrong]())
        assert stranger.is_left()
        assert reason(call.told) == "frame"
        assert [here.slot(slot) for slot in (0, 1, 3)] == others


@pytest.mark.parametrize("again", [range(1), range(LAYOUT.layers - 1, LAYOUT.layers), WHOLE], ids=str)
def test_layers_that_are_sent_again_are_proven_as_they_lie_not_as_they_came_first(tmp_path: Path, again: range) -> None:
    with ends(tmp_path, "here") as (here,), calling(here.peer.address) as stranger:
        block, checksum = whole(here, 0)
        other, _ = whole(here, 1)
        start, size = region(LAYOUT, again)
        stranger.say(Offer(1, tuple(names("a")), False))
        call = here.host.called()
        call.flow.grant([Grant.RESERVED], [2])
        stranger.hear()
        stranger.say(slices(1, 0, block), slices(1, 0, other[start : start + size], again), Done(1, (0,), (checksum,)))
        assert call.told.next() == ("arrived", (0, False))


def test_a_corrupted_header_ends_the_connection_before_anything_is_read_by_it(tmp_path: Path) -> None:
    with ends(tmp_path, "here") as (here,), calling(here.peer.address) as stranger:
        stranger.say(Offer(1, tuple(names("a")), False))
        call = here.host.called()
        call.flow.grant([Grant.RESERVED], [2])
        stranger.hear()
        before = here.slot(2)
        said = bytearray(slices(1, 0, BLOCK))
        said[8] ^= 2  # the number of the call
        stranger.say(bytes(said))
        assert stranger.is_left()
        failure = call.told.end()
        assert failure is not None
        assert (failure.reason, failure.sentence) == ("frame", "the checksum of a frame's header is wrong")
        assert here.slot(2) == before


# What a receiver may not do


@pytest.mark.parametrize("wrong", ["grants for other names", "a block that was not sent", "grants again", "a release"])
def test_a_receiver_that_does_what_it_may_not_is_left(tmp_path: Path, wrong: str) -> None:
    frames: dict[str, list[Frame | bytes]] = {
        "grants for other names": [Granted(1, (Grant.RESERVED,) * 2)],
        "a block that was not sent": [Granted(1, (Grant.RESERVED,)), Sealed(1, (0,), (True,))],
        "grants again": [Granted(1, (Grant.RESERVED,))] * 2,
        "a release": [Release(1)],
    }
    with ends(tmp_path, "here") as (here,), listening() as listener:
        _, told = push(here, Peer("stranger", join_address(*listener.getsockname())))
        with accepted(listener) as stranger:
            stranger.answer()
            assert isinstance(stranger.hear(), Offer)
            stranger.say(*frames[wrong])
            assert stranger.is_left()
        assert reason(told) == "frame"


def test_a_peer_that_sends_what_was_not_asked_for_is_left(tmp_path: Path) -> None:
    with ends(tmp_path, "here") as (here,), listening() as listener:
        told = fetch(here, Peer("stranger", join_address(*listener.getsockname())), "a", [3])
        with accepted(listener) as stranger:
            stranger.answer()
            stranger.hear()
            stranger.say(Offer(2, tuple(names("a")), False))
            assert stranger.is_left()
        assert reason(told) == "frame"


# Dying


def cuts(said: bytes) -> list[int]:
    """Every byte near the edge of a frame, and some in the middle of a block."""
    edges = [0, len(said)]
    at = 0
    while at < len(said):
        body, bulk = (
            int.from_bytes(said[at + 16 : at + 20], "little"),
            int.from_bytes(said[at + 24 : at + 32], "little"),
        )
        edges += [at, at + 48, at + 48 + body]
        at += 48 + body + bulk
    near = {edge + step for edge in edges for step in (-2, -1, 0, 1, 2, 20)}
    return sorted(cut for cut in near | set(range(0, len(said), 1499)) if 0 <= cut <= len(said))


def test_a_sender_may_die_at_any_byte(tmp_path: Path) -> None:
    with ends(tmp_path, "here") as (here,):
        blocks = [whole(here, slot) for slot in (4, 5)]
        stream = b"".join(
            slices(1, position, data) + encode(Done(1, (position,), (checksum,)))
            for position, (data, checksum) in enumerate(blocks)
        )
        first_done = len(stream) // 2
        for cut in cuts(stream):
            with calling(here.peer.address, Lane.PUSH) as stranger:
                stranger.say(Offer(1, tuple(names("ab")), False))
                call = here.host.called()
                call.flow.grant([Grant.RESERVED] * 2, [0, 1])
                stranger.hear()
                stranger.say(stream[:cut])
            assert reason(call.told) == "broken", cut
            arrived = [event[1] for event in iter_events(call.told) if event[0] == "arrived"]
            assert arrived == [(0, True), (1, True)][: cut // first_done], cut


def test_a_peer_that_serves_a_fetch_may_die_at_any_byte(tmp_path: Path) -> None:
    with ends(tmp_path, "here") as (here,), listening() as listener:
        peer = Peer("stranger", join_address(*listener.getsockname()))
        blocks = [whole(here, slot) for slot in (4, 5)]
        stream = b"".join(
            slices(1, position, data) + encode(Done(1, (position,), (checksum,)))
            for position, (data, checksum) in enumerate(blocks)
        )
        first_done = len(stream) // 2
        for cut in cuts(stream):
            told = fetch(here, peer, "ab", [0, 1])
            with accepted(listener) as stranger:
                stranger.answer()
                stranger.hear()
                stranger.say(stream[:cut])
            assert reason(told) == "broken", cut
            arrived = [event[1] for event in iter_events(told) if event[0] == "arrived"]
            assert arrived == [(0, True), (1, True)][: cut // first_done], cut


def iter_events(told: Told) -> list[tuple[Any, ...]]:
    return [told.events.get_nowait() for _ in range(told.events.qsize())]


def test_a_receiver_that_dies_ends_the_push_and_the_next_one_connects_anew(tmp_path: Path) -> None:
    with ends(tmp_path, "here") as (here,), listening() as listener:
        peer = Peer("stranger", join_address(*listener.getsockname()))
        for store_incarnation in (1, 2):
            flow, told = push(here, peer)
            with accepted(listener) as stranger:
                stranger.answer()
                stranger.hear()
                stranger.say(Granted(store_incarnation and 1, (Grant.RESERVED,)))
                assert told.next()[0] == "granted"
            assert reason(told) == "broken"
            flow.send([0], [0], WHOLE)  # nobody is there to take it, and nothing happens
            flow.end()


def test_a_store_that_connects_again_ends_what_its_older_connection_had(tmp_path: Path) -> None:
    """Its network broke, and this side has not noticed: what was reserved must be free for it to be offered again."""
    with ends(tmp_path, "here") as (here,), calling(here.peer.address) as older:
        older.say(Offer(1, tuple(names("a")), False))
        call = here.host.called()
        call.flow.grant([Grant.RESERVED], [0])
        older.hear()
        with calling(here.peer.address) as newer:
            assert call.told.over.is_set(), "ended before the newer one is welcomed"
            assert older.is_left()
            newer.say(Offer(1, tuple(names("a")), False))
            here.host.called()


# Waiting


def test_an_offer_that_is_not_answered_in_time_is_over(tmp_path: Path) -> None:
    with ends(tmp_path) as (here, there):
        _, told = push(here, there.peer, deadline_s=0.02)
        call = there.host.called()
        assert reason(told) == "deadline"
        assert call.told.end() is None, "the peer is told, too"
        call.flow.grant([Grant.RESERVED], [0])
        _, again = push(here, there.peer)
        there.host.called().flow.grant([Grant.HELD], [None])
        assert again.next() == ("granted", Grant.HELD)


def test_a_fetch_ends_with_its_deadline_and_what_comes_later_is_thrown_away(tmp_path: Path) -> None:
    with ends(tmp_path, "here") as (here,), listening() as listener:
        data, checksum = whole(here, 4)
        told = fetch(here, Peer("stranger", join_address(*listener.getsockname())), "a", [3], deadline_s=0.02)
        with accepted(listener) as stranger:
            stranger.answer()
            stranger.hear()
            assert reason(told) == "deadline"
            before = here.slot(3)
            assert isinstance(stranger.hear(), Release)
            stranger.say(slices(1, 0, data), Done(1, (0,), (checksum,)), End(1, ""))
            other = Told()
            here.transfer.fetch(
                Peer("stranger", join_address(*listener.getsockname())), names("b"), [5], deadline_s=5, events=other
            )
            assert isinstance(stranger.hear(), Want)
            stranger.say(slices(2, 0, data), Done(2, (0,), (checksum,)), End(2, ""))
            assert other.next() == ("arrived", (0, True))
            assert here.slot(3) == before
            other.end()


def test_a_peer_that_hangs_is_given_up(tmp_path: Path) -> None:
    with ends(tmp_path, "here", stall_s=0.05) as (here,), listening() as listener:
        address = join_address(*listener.getsockname())
        assert reason(push(here, Peer("stranger", address))[1]) == "stalled", "it accepts, and says nothing"


def test_a_peer_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    with ends(tmp_path, "here", stall_s=0.2, slots=2048) as (here,), listening() as listener:
        flow, told = push(here, Peer("stranger", join_address(*listener.getsockname())), "a")
        with accepted(listener) as stranger:
            stranger.answer()
            stranger.hear()
            stranger.say(Granted(1, (Grant.RESERVED,)))
            told.next()
            for slot in range(2048):  # 14 MB, more than sockets hold
                flow.send([0], [slot], WHOLE)
            assert reason(told) == "stalled"


def test_a_peer_that_never_answers_for_what_it_was_sent_is_given_up(tmp_path: Path) -> None:
    with ends(tmp_path, "here", stall_s=0.05) as (here,), listening() as listener:
        flow, told = push(here, Peer("stranger", join_address(*listener.getsockname())))
        with accepted(listener) as stranger:
            stranger.answer()
            stranger.hear()
            stranger.say(Granted(1, (Grant.RESERVED,)))
            told.next()
            flow.send([0], [0], WHOLE)
            flow.done([0], [0])
            assert reason(told) == "stalled"


def test_a_peer_that_stops_in_the_middle_of_a_frame_is_given_up(tmp_path: Path) -> None:
    with ends(tmp_path, "here", stall_s=0.05) as (here,), calling(here.peer.address) as stranger:
        stranger.say(Offer(1, tuple(names("a")), False))
        call = here.host.called()
        call.flow.grant([Grant.RESERVED], [0])
        stranger.hear()
        stranger.say(slices(1, 0, BLOCK)[:-1])
        assert reason(call.told) == "stalled"


def test_a_connection_without_calls_ends_and_is_opened_again_when_needed(tmp_path: Path) -> None:
    with ends(tmp_path, idle_s=0.01) as (here, there):
        for _ in range(2):
            flow, told = push(here, there.peer)
            there.host.called().flow.grant([Grant.HELD], [None])
            told.next()
            threads = [thread for thread in threading.enumerate() if thread.name == "push there"]
            flow.end()
            assert reason(told) is None
            threads[0].join(stores.PATIENCE_S)
            assert here.transfer.counts.connections == 0


def test_closing_ends_every_call_on_both_sides(tmp_path: Path) -> None:
    with ends(tmp_path) as (here, there):
        checksum = here.fill(0)
        flow, pushed = push(here, there.peer)
        push_call = there.host.called()
        push_call.flow.grant([Grant.RESERVED], [0])
        pushed.next()
        flow.send([0], [0], range(1))
        fetched = fetch(there, here.peer, "a", [1])
        fetch_call = here.host.called()
        here.transfer.close()
        assert (reason(pushed), reason(fetch_call.told)) == ("closed", "closed")
        assert (reason(push_call.told), reason(fetched)) == ("broken", "broken")
        flow.done([0], [checksum])


def test_closing_does_not_wait_for_strangers_who_say_nothing(tmp_path: Path) -> None:
    with ends(tmp_path, "here", stall_s=stores.PATIENCE_S * 2) as (here,), calling(here.peer.address, None) as stranger:
        here.transfer.close()
        assert stranger.is_left()


def test_a_port_that_is_taken_is_an_error_at_once(tmp_path: Path) -> None:
    with listening() as listener, pytest.raises(OSError, match="in use"):
        TcpTransfer(
            memoryview(bytearray(1)), stores.NotingHost("s", IDENTITY, LAYOUT), join_address(*listener.getsockname())
        )


def test_a_stranger_is_a_peer_like_any_other_if_it_speaks_well(tmp_path: Path) -> None:
    """So the tests above fail for what they say, and not for how the stranger speaks."""
    with ends(tmp_path, "here") as (here,), calling(here.peer.address) as stranger:
        data, checksum = whole(here, 4)
        stranger.say(Offer(1, tuple(names("a")), False))
        call = here.host.called()
        call.flow.grant([Grant.RESERVED], [0])
        assert stranger.hear() == Granted(1, (Grant.RESERVED,))
        stranger.say(slices(1, 0, data[:3000], range(1)), slices(1, 0, data[3000:], range(1, 3)))
        stranger.say(Done(1, (0,), (checksum,)))
        assert stranger.hear() == Sealed(1, (0,), (True,))
        assert here.block(0) == data
        stranger.say(Release(1))
        assert reason(call.told) is None
