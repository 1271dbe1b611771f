"""Blocks cross between two arenas over TCP, in threads, without any store."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from kvstore.frames import Grant
from kvstore.tcp import TlsContexts
from tests.kvstore.builders import LAYOUT, names
from tests.kvstore.stores import PATIENCE_S, Called, End, Told, ends

WHOLE = range(LAYOUT.layers)


def contexts(authority: trustme.CA, believed: trustme.CA | None = None) -> TlsContexts:
    certificate = authority.issue_cert("127.0.0.1")
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (client, server):
        context.verify_mode = ssl.CERT_REQUIRED
        certificate.configure_cert(context)
        (believed or authority).configure_trust(context)
    return TlsContexts(client, server)


@pytest.fixture(params=["plain", "tls"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"tls": contexts(trustme.CA()) if request.param == "tls" else None}


def push(here: End, there: End, text: str, **more: Any) -> tuple[Any, Told, Called]:
    told = Told()
    flow = here.transfer.push(there.peer, names(text), **{"last_is_short": False, "deadline_s": 5, **more}, events=told)
    return flow, told, there.host.called()


def granted(call: Called, told: Told, slots: list[int]) -> None:
    """All that is offered is taken, into these slots."""
    call.flow.grant([Grant.RESERVED] * len(slots), slots)
    assert told.next() == ("granted", *[Grant.RESERVED] * len(slots))


def fetch(here: End, there: End, text: str, slots: list[int], deadline_s: float = 5) -> tuple[Any, Told, Called]:
    told = Told()
    flow = here.transfer.fetch(there.peer, names(text), slots, deadline_s=deadline_s, events=told)
    told.flow = flow  # type: ignore[attr-defined]
    return flow, told, there.host.called()


def test_pushed_blocks_arrive_bit_equal(tmp_path: Path, options: dict[str, Any]) -> None:
    with ends(tmp_path, **options) as (here, there):
        checksums = [here.fill(slot) for slot in (4, 5, 6)]
        flow, told, call = push(here, there, "abc", last_is_short=True)
        assert (call.peer, call.names, call.last_is_short) == ("here", tuple(names("abc")), True)
        call.flow.grant([Grant.RESERVED, Grant.HELD, Grant.RESERVED], [9, None, 8])
        assert told.next() == ("granted", Grant.RESERVED, Grant.HELD, Grant.RESERVED)
        flow.send([0, 2], [4, 6], WHOLE)
        flow.done([0, 2], [checksums[0], checksums[2]])
        assert call.told.next() == ("arrived", (0, True), (2, True))
        assert told.next() == ("sealed", (0, True), (2, True))
        assert (there.block(9), there.block(8)) == (here.block(4), here.block(6))
        flow.end()
        assert (told.end(), call.told.end()) == (None, None)
        assert here.transfer.counts.bytes_sent == there.transfer.counts.bytes_received == 2 * LAYOUT.block_bytes


def test_fetched_blocks_arrive_bit_equal_in_parts(tmp_path: Path, options: dict[str, Any]) -> None:
    with ends(tmp_path, **options) as (here, there):
        checksums = [there.fill(slot) for slot in (1, 2, 3)]
        flow, told, call = fetch(here, there, "abc", [7, 6, 5])
        assert (call.peer, call.names) == ("here", tuple(names("abc")))
        assert 0 < call.deadline_s <= 5
        call.flow.send([0], [1], WHOLE)
        call.flow.done([0], checksums[:1])
        assert told.next() == ("arrived", (0, True))
        flow.sealed([0], [True])
        assert call.told.next() == ("sealed", (0, True))
        call.flow.send([1, 2], [2, 3], WHOLE)
        call.flow.done([1, 2], checksums[1:])
        assert told.next() == ("arrived", (1, True), (2, True))
        flow.sealed([1, 2], [True, True])
        call.told.next()
        call.flow.end()
        assert (told.end(), call.told.end()) == (None, None)
        assert [here.block(slot) for slot in (7, 6, 5)] == [there.block(slot) for slot in (1, 2, 3)]


def test_layers_of_different_sizes_cross_one_by_one_and_padding_is_left_alone(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with ends(tmp_path, **options) as (here, there):
        before = there.slot(9)
        checksums = [here.fill(slot) for slot in (4, 5)]
        flow, told, call = push(here, there, "ab")
        granted(call, told, [9, 2])
        for layer in (2, 0, 1):  # in whatever order they come
            flow.send([0, 1], [4, 5], range(layer, layer + 1))
        flow.done([0, 1], checksums)
        assert told.next() == ("sealed", (0, True), (1, True))
        assert there.slot(9) == here.block(4) + before[LAYOUT.block_bytes :]
        assert there.block(2) == here.block(5)


def test_a_block_that_is_not_what_its_checksum_says_is_refused_and_both_sides_know(tmp_path: Path) -> None:
    with ends(tmp_path) as (here, there):
        checksums = [here.fill(slot) for slot in (4, 5)]
        flow, told, call = push(here, there, "ab")
        granted(call, told, [0, 1])
        flow.send([0, 1], [4, 5], WHOLE)
        flow.done([0, 1], [checksums[0] ^ 1, checksums[1]])
        assert call.told.next() == ("arrived", (0, False), (1, True))
        assert told.next() == ("sealed", (0, False), (1, True))


def test_a_block_of_which_a_layer_is_missing_is_refused(tmp_path: Path) -> None:
    with ends(tmp_path) as (here, there):
        checksum = here.fill(4)
        flow, told, call = push(here, there, "a")
        granted(call, told, [0])
        flow.send([0], [4], range(1, 3))
        flow.done([0], [checksum])
        assert told.next() == ("sealed", (0, False))


def test_what_is_given_up_is_told(tmp_path: Path) -> None:
    with ends(tmp_path) as (here, there):
        flow, told, call = push(here, there, "ab")
        granted(call, told, [0, 1])
        flow.give_up([1])
        assert call.told.next() == ("given up", 1)
        flow.end()
        assert call.told.end() is None


def test_why_not_all_of_a_fetch_was_sent_is_told(tmp_path: Path) -> None:
    with ends(tmp_path) as (here, there):
        _, told, call = fetch(here, there, "ab", [0, 1])
        call.flow.end("only some of it is here")
        failure = told.end()
        assert failure is not None
        assert (failure.reason, failure.sentence) == ("missing", "only some of it is here")


def test_a_fetch_that_is_not_wanted_any_more_ends_on_both_sides(tmp_path: Path) -> None:
    with ends(tmp_path) as (here, there):
        there.fill(1)
        flow, told, call = fetch(here, there, "a", [0])
        flow.stop()
        failure = told.end()
        assert failure is not None
        assert failure.reason == "closed"
        assert call.told.end() is None
        before = here.block(0)
        call.flow.send([0], [1], WHOLE)  # too late, and nothing happens
        _, _, again = fetch(here, there, "a", [2])
        assert again.names == tuple(names("a"))
        assert here.block(0) == before


def test_calls_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long prefix does not hold up another request's layer."""
    monkeypatch.setattr("kvstore.tcp_calls.PORTION_BYTES", 1)
    with ends(tmp_path) as (here, there):
        arrivals: list[str] = []
        long_flow, long_told, long_call = push(here, there, "abcdef")
        granted(long_call, long_told, list(range(6)))

        def note(which: str, told: Told) -> Callable[..., None]:
            answer = told.arrived

            def arrived(positions: Any, checksums: Any, intact: Any) -> None:
                arrivals.append(which)
                answer(positions, checksums, intact)

            return arrived

        class Begins(Told):
            """Says all of both calls in one breath, in the thread that is to send it."""

            def granted(self, grants: Any) -> None:
                for position in range(6):
                    long_flow.send([position], [position], WHOLE)
                    long_flow.done([position], [0])
                short_flow.send([0], [0], WHOLE)
                short_flow.done([0], [0])

        short_told = Begins()
        short_flow = here.transfer.push(there.peer, names("z"), last_is_short=False, deadline_s=5, events=short_told)
        short_call = there.host.called()
        long_call.told.arrived = note("long", long_call.told)  # type: ignore[method-assign]
        short_call.told.arrived = note("short", short_call.told)  # type: ignore[method-assign]
        short_call.flow.grant([Grant.RESERVED], [7])
        for _ in range(6):
            long_told.next()
        short_told.next()
        assert arrivals == ["long", "short", *["long"] * 5]


def test_without_a_certificate_of_the_authority_nobody_gets_in(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    for there_tls, here_tls in (
        (contexts(ours), contexts(theirs, believed=ours)),  # a client that believes us, and shows another's certificate
        (contexts(ours), contexts(theirs)),
        (contexts(ours), None),
        (None, contexts(ours)),
    ):
        (tmp_path / "there").mkdir(exist_ok=True)
        with (
            ends(tmp_path / "there", "there", tls=there_tls, stall_s=1) as (there,),
            ends(tmp_path, "here", tls=here_tls, stall_s=1) as (here,),
        ):
            told = Told()
            here.transfer.push(there.peer, names("a"), last_is_short=False, deadline_s=5, events=told)
            assert told.end() is not None
            assert there.host.calls.empty()
            if there_tls is not None:
                address, reason = there.host.away.get(timeout=PATIENCE_S)
                assert address == "127.0.0.1"
                assert reason.startswith(("TLS: ", "the peer's certificate is not good: "))
