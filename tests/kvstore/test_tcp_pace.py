"""What counts as flowing, for how long, and whose time it is."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.frames import Grant
from kvstore.layout import Identity, KvLayout
from kvstore.tcp_pace import GAP_S, LEAST_BYTES, PEERS, Meter, Run
from kvstore.transfer import Came
from tests.kvstore.builders import names
from tests.kvstore.stores import End, Told, ends

MIB = 1 << 20


def frame(run: Run, size: int, begins: float, ends: float, *, sharing: int = 1, waiting: int = 0) -> None:
    run.begins(now=begins, waiting_bytes=lambda: waiting)
    run.ends(size, sharing=sharing, now=ends)


def one(meter: Meter) -> Came:
    (came,) = meter.take()
    return came


def test_a_frame_counts_from_its_header_to_its_last_byte() -> None:
    meter = Meter()
    frame(Run(meter, "a"), 8 * MIB, 10.0, 10.5)

    assert one(meter) == Came("a", 8 * MIB, 0.5)
    assert meter.take() == (), "told once"


def test_frames_that_follow_one_another_are_one_run_and_waiting_for_one_is_not_flowing() -> None:
    meter, near = Meter(), GAP_S / 2
    run = Run(meter, "a")
    frame(run, 2 * MIB, 10.0, 11.0)
    frame(run, 2 * MIB, 11.0 + near, 12.0)
    frame(run, 2 * MIB, 50.0, 51.0)

    came = one(meter)
    assert came.size_bytes == 6 * MIB
    assert came.seconds == pytest.approx(3.0)


def test_what_was_there_before_the_thread_woke_up_has_not_flowed() -> None:
    meter = Meter()
    frame(Run(meter, "a"), 8 * MIB, 10.0, 10.5, waiting=3 * MIB)

    assert one(meter) == Came("a", 5 * MIB, 0.5)


def test_in_the_middle_of_a_run_what_is_there_already_has_come_meanwhile() -> None:
    meter = Meter()
    run = Run(meter, "a")
    for number in range(4):
        frame(run, MIB, 10.0 + number, 11.0 + number, waiting=MIB // 2)

    assert one(meter) == Came("a", 4 * MIB - MIB // 2, 4.0)


def test_a_run_that_is_too_short_is_left_out_and_a_long_one_of_small_frames_is_not() -> None:
    meter = Meter()
    run = Run(meter, "a")
    for number in range(10):
        frame(run, LEAST_BYTES - 1, 10.0 * number, 10.0 * number + 1.0)
    assert meter.take() == ()
    for number in range(64):
        frame(run, LEAST_BYTES // 32, 1000.0 + number, 1001.0 + number)

    assert one(meter) == Came("a", 2 * LEAST_BYTES, 64.0)


def test_time_in_which_two_receive_is_divided_among_them() -> None:
    meter = Meter()
    first, second = Run(meter, "a"), Run(meter, "b")
    first.begins(now=0.0, waiting_bytes=lambda: 0)
    second.begins(now=2.0, waiting_bytes=lambda: 0)
    first.ends(4 * MIB, sharing=1, now=4.0)
    second.ends(4 * MIB, sharing=1, now=8.0)

    assert {came.source: came.seconds for came in meter.take()} == pytest.approx({"a": 3.0, "b": 5.0})


def test_who_is_sent_to_beside_others_has_its_share_of_the_sender() -> None:
    meter = Meter()
    frame(Run(meter, "a"), 4 * MIB, 0.0, 4.0, sharing=4)
    first, second = Run(meter, "b"), Run(meter, "c")
    first.begins(now=10.0, waiting_bytes=lambda: 0)
    second.begins(now=10.0, waiting_bytes=lambda: 0)
    first.ends(MIB, sharing=4, now=18.0)
    second.ends(MIB, sharing=1, now=18.0)

    assert {came.source: came.seconds for came in meter.take()} == pytest.approx({"a": 1.0, "b": 2.0, "c": 4.0})


def test_a_connection_that_breaks_within_a_frame_leaves_the_others_their_time() -> None:
    meter = Meter()
    lost, other = Run(meter, "a"), Run(meter, "b")
    lost.begins(now=0.0, waiting_bytes=lambda: 0)
    lost.breaks(now=1.0)
    frame(other, MIB, 1.0, 2.0)

    assert one(meter) == Came("b", MIB, 1.0)


def test_how_many_are_sending_is_counted_whatever_becomes_of_them() -> None:
    meter = Meter()
    with meter.sending() as first, meter.sending() as second:
        assert (first, second) == (1, 2)
    with pytest.raises(OSError, match="gone"), meter.sending():
        raise OSError("gone")
    with meter.sending() as again:
        assert again == 1


def test_peers_that_nobody_asks_about_are_bounded() -> None:
    meter = Meter()
    for number in range(2 * PEERS):
        meter.came(f"{number}", 1, 1.0)

    assert len(meter.take()) == PEERS


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 5.0), st.floats(0.001, 5.0)), min_size=1, max_size=20),
    st.integers(1, 4),
)
def test_all_together_have_no_more_time_than_there_was_and_nobody_less_than_none(
    waits: Sequence[tuple[int, float, float]], sharing: int
) -> None:
    """Three connections: each waits, then receives for a while."""
    meter, at, times = Meter(), [0.0, 0.0, 0.0], []
    for which, wait_s, took_s in waits:
        begins = at[which] + wait_s
        at[which] = begins + took_s
        times += [(begins, 1, which), (at[which], 0, which)]
    runs = [Run(meter, f"{which}") for which in range(3)]
    for now, begins, which in sorted(times):
        if begins:
            runs[which].begins(now=now, waiting_bytes=lambda: 0)
        else:
            runs[which].ends(MIB, sharing=sharing, now=now)
    came = meter.take()

    assert all(each.seconds > 0 for each in came)
    assert sum(each.seconds for each in came) <= max(at) + 1e-6
    assert sum(each.size_bytes for each in came) == MIB * len(waits)


LARGE = KvLayout(4, (1 << 19,) * 4, "bytes")
IDENTITY = Identity("tiny", "aa", "float32", 4, LARGE.digest)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[list[End]]:
    """Blocks of 2 MiB."""
    with ends(tmp_path, layout=LARGE, identity=IDENTITY, slots=16) as made:
        yield made


def push_all(here: End, there: End) -> None:
    """Every layer of every block, and none of them is sealed."""
    told, slots = Told(), list(range(16))
    flow = here.transfer.push(there.peer, names("abcdefghijklmnop"), last_is_short=False, deadline_s=20, events=told)
    call = there.host.called()
    call.flow.grant([Grant.RESERVED] * 16, slots)
    told.next()
    for layer in range(4):
        flow.send(slots, slots, range(layer, layer + 1))
    flow.give_up(slots)
    assert call.told.next() == ("given up", *slots)
    flow.end()
    assert told.end() is None


def test_what_really_came_is_told_of_its_sender_by_the_receiver_alone(large: list[End]) -> None:
    here, there = large
    came: tuple[Came, ...] = ()
    rounds = 0
    while not came:  # threads that wake up late may leave all of a round out
        assert rounds < 100, "nothing of 3 GiB was measured"
        push_all(here, there)
        came, rounds = there.transfer.came(), rounds + 1

    (each,) = came
    assert each.source == "here"
    assert LEAST_BYTES <= each.size_bytes <= 16 * LARGE.block_bytes
    assert 0.0 < each.seconds < 20.0
    assert here.transfer.came() == ()
