"""Who gets a seat and blocks in a batcher, and who gives them back. Blocks have 4 tokens."""

import pytest

from scheduler.progress import BatchLimits
from scheduler.vocabulary import RequestId
from tests.scheduler.build import SIZE, admitted, ask_for, batcher, names, prompt, ran, step

# -- admission --------------------------------------------------------------------------------------------------------


def test_sequences_are_seated_in_the_order_in_which_they_came() -> None:
    worker, _ = batcher(seats=2)
    for name in "abc":
        assert worker.add(ask_for(name, prompt(3)), now=0) is None

    assert admitted(worker) == ["a", "b"]
    worker.cancel(RequestId("a"))
    assert admitted(worker) == ["c"]


def test_a_small_sequence_does_not_overtake_a_large_one_that_waits_for_blocks() -> None:
    worker, _ = batcher(blocks=10)
    for name, length in (("first", 20), ("large", 30), ("small", 2)):
        worker.add(ask_for(name, prompt(length, start=length)), now=0)

    assert admitted(worker) == ["first"]
    assert admitted(worker) == []
    worker.cancel(RequestId("first"))
    assert admitted(worker) == ["large", "small"]


def test_a_seat_comes_with_blocks_for_the_whole_prompt_and_one_token() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(2 * SIZE)), now=0)
    worker.admit(now=0)

    assert device.pinned == 3


def test_a_prefill_for_another_worker_takes_blocks_for_the_prompt_only() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(2 * SIZE), hand_over=True), now=0)
    worker.admit(now=0)

    assert device.pinned == 2


def test_who_waits_for_blocks_of_others_is_seated_once_they_are_unpinned() -> None:
    worker, device = batcher(blocks=4)
    published = device.take(2)
    assert published is not None
    worker.add(ask_for("a", prompt(10)), now=0)

    assert admitted(worker) == []
    device.unpin(published)
    assert admitted(worker) == ["a"]


@pytest.mark.parametrize(
    ("running", "reason"),
    [
        (ask_for("a", []), "the prompt is empty"),
        (ask_for("a", prompt(32)), "32 tokens leave no room to generate: the context is 32 tokens"),
        (ask_for("a", prompt(24)), "24 tokens can never fit: this worker's KV cache holds 24 tokens"),
        (
            ask_for("a", [1], output=[5, 6], most=2),
            "nothing is left to generate: 2 of at most 2 tokens were given out",
        ),
        (ask_for("seated", [1]), "request seated is running here already"),
    ],
)
def test_what_can_never_run_is_refused_in_a_sentence(running: object, reason: str) -> None:
    worker, _ = batcher(blocks=6, context=32)
    worker.add(ask_for("seated", [1]), now=0)

    assert worker.add(running, now=0) == reason  # type: ignore[arg-type]
    assert not worker.full


def test_a_full_queue_refuses_and_says_so() -> None:
    worker, _ = batcher(waiting=1)
    worker.add(ask_for("a", [1]), now=0)

    assert worker.full
    assert worker.add(ask_for("b", [1]), now=0) == "this worker's queue is full (1 waiting)"


def test_limits_without_room_for_anything_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BatchLimits(0, 64, 64, 1)


# -- making room ------------------------------------------------------------------------------------------------------


def test_the_youngest_makes_room_and_comes_back_with_what_was_cached() -> None:
    worker, device = batcher(blocks=6)
    for name, start in (("old", 0), ("young", 100)):
        worker.add(ask_for(name, prompt(9, start=start), most=5), now=0)
    given: dict[str, int] = {"old": 0, "young": 0}
    seen = []
    for _ in range(20):
        for each in step(worker):
            given[each.request] += 1
            seen.append(each.request)
        if not worker.snapshot().live:
            break

    assert given == {"old": 5, "young": 5}
    assert worker.snapshot().preemptions == 1
    assert seen[-1] == "young"
    device.check()
    assert device.pinned == 0


def test_a_sequence_that_waits_to_be_handed_over_is_never_dropped() -> None:
    worker, _ = batcher(blocks=5, tokens=4, seats=2)
    worker.add(ask_for("old", prompt(3), most=50), now=0)
    step(worker)
    worker.add(ask_for("handoff", prompt(16, start=50), hand_over=True), now=0)
    admitted(worker)

    first = []
    for _ in range(8):
        first += [each.request for each in step(worker) if each.first]
    assert "handoff" in first


def test_who_is_preempted_stands_before_all_who_wait() -> None:
    worker, _ = batcher(blocks=6)
    for name, start in (("old", 0), ("young", 100), ("waiting", 200)):
        worker.add(ask_for(name, prompt(9, start=start), most=6), now=0)
    order: list[str] = []
    while worker.snapshot().live:
        order += [each.request for each in step(worker) if each.finish]

    assert order == ["old", "young", "waiting"]


# -- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["waiting", "loading", "prefilling", "decoding"])
def test_a_cancelled_sequence_frees_everything_in_every_phase(phase: str) -> None:
    worker, device = batcher(seats=1, tokens=4)
    if phase == "waiting":
        worker.add(ask_for("seated", [1]), now=0)
        admitted(worker)
    worker.add(ask_for("a", prompt(7)), now=0)
    if phase == "loading":
        worker.admit(now=0)
    for _ in range({"waiting": 0, "loading": 0, "prefilling": 1, "decoding": 3}[phase]):
        step(worker)

    worker.cancel(RequestId("a"))
    worker.cancel(RequestId("a"))
    worker.loaded(RequestId("a"), 0)
    worker.cancel(RequestId("seated"))
    device.check()
    assert device.pinned == 0
    assert worker.snapshot().live == ()


def test_a_sequence_cancelled_in_a_step_gives_its_blocks_back_after_it() -> None:
    worker, device = batcher()
    worker.add(ask_for("a", prompt(9)), now=0)
    admitted(worker)
    batch = worker.next(now=0)
    assert batch is not None

    worker.cancel(RequestId("a"))
    assert worker.snapshot().live == ()
    assert device.pinned == 3  # the engine still writes them
    assert ran(worker, batch) == []
    assert device.pinned == 0
    assert len(device.match(names(prompt(9)))) == 2  # what it computed is good


def test_whoever_copies_to_the_blocks_of_a_sequence_that_is_cancelled_keeps_them_by_a_pin() -> None:
    worker, device = batcher(blocks=4)
    worker.add(ask_for("a", prompt(9)), now=0)
    (load,) = worker.admit(now=0)
    device.pin(load.targets)

    worker.cancel(load.request)
    worker.loaded(load.request, 2)
    assert device.pinned == 2
    worker.add(ask_for("b", prompt(12, start=100), hand_over=True), now=0)
    assert worker.admit(now=0) == []
    device.unpin(load.targets)
    assert admitted(worker) == ["b"]
    assert device.match(names(prompt(9))) == []
