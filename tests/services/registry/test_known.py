"""What is believed of others: at once what is new, not for ever what is missing."""

import json
from dataclasses import replace

import pytest

from services.registry.entry import LONGEST, Entry, EntryError, Kind, decode, encode, key, roll
from services.registry.known import Known

ONE = Entry(Kind.STORE, "store-0", "unix:/run/x/store-0.sock", "host-a", 7)
TWO = Entry(Kind.STORE, "store-1", "10.0.0.1:7200", "host-b", 8)
PATIENCE_S = 5.0


def known(*entries: Entry) -> Known:
    made = Known(patience_s=PATIENCE_S)
    made.heard(entries, now=0.0)
    return made


def test_what_is_announced_is_known_in_the_order_of_ids() -> None:
    assert known(TWO, ONE).entries(Kind.STORE) == (ONE, TWO)
    assert known(TWO, ONE).entries(Kind.CONDUCTOR) == ()


def test_only_a_difference_is_a_change() -> None:
    it = Known(patience_s=PATIENCE_S)
    assert it.heard([ONE], now=0.0)
    assert not it.heard([ONE], now=1.0)
    assert it.heard([replace(ONE, address="10.0.0.2:1", incarnation=9)], now=2.0)
    assert [each.address for each in it.entries(Kind.STORE)] == ["10.0.0.2:1"]


def test_whoever_is_missing_is_believed_in_until_patience_ends() -> None:
    it = known(ONE, TWO)
    assert not it.heard([TWO], now=10.0)
    assert not it.heard([TWO], now=10.0 + PATIENCE_S - 0.1)
    assert it.entries(Kind.STORE) == (ONE, TWO)
    assert it.heard([TWO], now=10.0 + PATIENCE_S)
    assert it.entries(Kind.STORE) == (TWO,)


def test_whoever_comes_back_in_time_was_never_away() -> None:
    it = known(ONE)
    it.heard([], now=1.0)
    it.heard([ONE], now=2.0)
    assert not it.heard([], now=3.0)
    assert not it.heard([], now=3.0 + PATIENCE_S - 0.1)
    assert it.heard([], now=3.0 + PATIENCE_S)


def test_an_entry_is_read_back_as_it_was_written() -> None:
    for entry in (ONE, TWO, replace(ONE, address="[::1]:7200")):
        assert decode(entry.kind, entry.id, encode(entry).encode()) == entry


def test_a_unix_socket_is_known_to_its_own_host_only() -> None:
    assert ONE.reachable_from("host-a")
    assert not ONE.reachable_from("host-b")
    assert TWO.reachable_from("host-a")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b'{"address": "10.0.0.1:1", "host": "h"}',
        b'{"address": 1, "host": "h", "incarnation": 1}',
        b'{"address": "nowhere", "host": "h", "incarnation": 1}',
        b'{"address": "10.0.0.1:1\\n", "host": "h", "incarnation": 1}',
        b'{"address": "unix:relative", "host": "h", "incarnation": 1}',
        json.dumps({"address": "unix:/" + "x" * 300, "host": "h", "incarnation": 1}).encode(),
        json.dumps({"address": "h:1", "host": "h" * LONGEST, "incarnation": 1}).encode(),
    ],
)
def test_what_is_no_entry_is_told_apart(document: bytes) -> None:
    with pytest.raises(EntryError):
        decode(Kind.STORE, "store-0", document)


def test_an_id_is_of_plain_characters() -> None:
    with pytest.raises(EntryError):
        decode(Kind.STORE, "store 0:x", encode(ONE).encode())


def test_deployments_have_keys_of_their_own() -> None:
    assert key("a", Kind.STORE, "s") != key("b", Kind.STORE, "s")
    assert roll("a", Kind.STORE) != roll("a", Kind.CONDUCTOR)
