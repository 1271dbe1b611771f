"""From what a run is told to its requests."""

import json
from dataclasses import replace
from math import inf

import pytest

from loadtest.offered import WARM_UP, block_warning, leaving, offered, warm_ups
from loadtest.request import Request, Span
from loadtest.settings import WORKLOADS, Endpoint, Offer, RunSettings, Simulated
from loadtest.traces import Conversation, Row, Trace
from loadtest.workload.ramps import Ramp, Strategy

ROWS = Trace(
    [
        Row(1000, 1024, 10, (0, 1)),
        Row(2000, 600, 20, (0, 2)),
        Row(9000, 3000, 30, (0, 1, 3, 4, 5, 6)),
        Row(11_000, 100, 40, (7,)),
    ]
)
TRACE = Offer("trace")


def lengths(requests: tuple[Request, ...]) -> list[tuple[int, int]]:
    return [(request.input_tokens, request.output_tokens) for request in requests]


def test_random_prompts_have_their_length_and_share_nothing() -> None:
    found = offered(Offer(requests=50, input_len=100, output_len=7)).requests

    assert set(lengths(found)) == {(100, 7)}
    assert len({request.prompt[0].content for request in found}) == 50


def test_or_lengths_around_it() -> None:
    found = lengths(offered(Offer(requests=500, input_len=100, output_len=10, range_ratio=0.5)).requests)

    assert {input_len for input_len, _ in found} == set(range(50, 151))
    assert {output_len for _, output_len in found} == set(range(5, 16))


@pytest.mark.parametrize("workload", [each for each in WORKLOADS if each != "trace"])
def test_the_same_seed_is_the_same_requests(workload: str) -> None:
    offer = Offer(workload, requests=30, rate_per_s=5.0, prefix_len=200, input_len=20, output_len=10)

    assert offered(offer) == offered(offer)
    assert offered(offer) != offered(replace(offer, seed=1))


@pytest.mark.parametrize("workload", [each for each in WORKLOADS if each != "trace"])
def test_no_more_requests_than_were_asked_for_and_each_follows_one_before(workload: str) -> None:
    found = offered(Offer(workload, requests=37, rate_per_s=5.0, prefix_len=200, input_len=20, output_len=10)).requests

    assert len(found) == 37
    assert all(request.after is None or request.after < place for place, request in enumerate(found))


def test_a_duration_takes_as_many_as_fit() -> None:
    found = offered(Offer(duration_s=20.0, rate_per_s=10.0)).requests

    assert 180 <= len(found) <= 200
    assert max(request.at_s for request in found) < 20.0


def test_without_a_rate_there_is_enough_for_every_second_of_it() -> None:
    assert len(offered(Offer(duration_s=2.0, max_concurrency=4)).requests) == 2000
    assert len(offered(Offer()).requests) == 1000


def test_a_duration_alone_would_be_everything_at_once() -> None:
    with pytest.raises(ValueError, match="a duration alone would send everything at once: it needs --request-rate"):
        offered(Offer(duration_s=2.0))


def test_a_ramp_fills_its_duration() -> None:
    found = offered(Offer(duration_s=100.0, ramp=Ramp(Strategy.LINEAR, 1.0, 9.0))).requests

    assert len(found) == pytest.approx(8 / 2.197 * 100, rel=0.01)
    assert 99.0 < found[-1].at_s < 100.0


def test_a_trace_is_replayed_as_it_says() -> None:
    found = offered(replace(TRACE, speed=2.0, length_scale=0.25), ROWS).requests

    assert [request.at_s for request in found] == [0.0, 0.5, 4.0, 5.0]
    assert lengths(found)[0] == (256, 2)
    assert found[0].prompt[0] == found[1].prompt[0]


def test_of_a_trace_the_longest_can_be_left_out() -> None:
    found = offered(replace(TRACE, longest=2000), ROWS)

    assert (len(found.requests), found.left_out) == (3, 1)
    assert offered(replace(TRACE, longest=2000, requests=2), ROWS).requests == found.requests[:2]
    assert len(offered(replace(TRACE, duration_s=5.0), ROWS).requests) == 2


def test_who_would_follow_one_that_is_left_out_is_left_out_too() -> None:
    offer = Offer("chats", requests=60, rate_per_s=5.0, prefix_len=100, input_len=50, output_len=50)
    whole = offered(replace(offer, requests=None, duration_s=10.0))
    found = offered(replace(offer, requests=None, duration_s=10.0, longest=400))

    assert 0 < len(found.requests) < len(whole.requests)
    assert found.left_out > 0
    for request in found.requests:
        assert request.input_tokens + request.output_tokens <= 400
        if request.after is not None:
            before = found.requests[request.after]
            assert request.prompt[:-1] == (*before.prompt, before.output)


def test_two_swarms_share_nothing() -> None:
    offer = Offer("swarm", requests=100, rate_per_s=1.0, prefix_len=300, input_len=10, output_len=10, branches=3)
    found = offered(offer).requests
    roots = [place for place, request in enumerate(found) if request.after is None]

    assert len(roots) > 1
    first, second = (
        {span.content for request in found[begin:end] for span in (*request.prompt, request.output)}
        for begin, end in ((0, roots[1]), (roots[1], len(found)))
    )
    assert not first & second


def test_a_seeded_share_is_left_midway() -> None:
    offer = Offer(requests=400, output_len=20, cancel_share=0.25)
    requests = offered(offer).requests
    found = leaving(offer, requests)

    assert len(found) == pytest.approx(100, abs=30)
    assert all(1 <= tokens < 20 for tokens in found.values())
    assert found == leaving(offer, requests)
    assert leaving(replace(offer, cancel_share=0.0), requests) == {}
    assert len(leaving(replace(offer, cancel_share=1.0), requests)) == 400


def test_an_answer_of_one_token_has_no_middle() -> None:
    offer = Offer(requests=10, output_len=1, cancel_share=1.0)

    assert leaving(offer, offered(offer).requests) == {}


def test_warm_ups_are_as_long_and_of_other_tokens() -> None:
    offer = Offer(requests=2, input_len=30, warmups=5)
    requests = offered(offer).requests
    found = warm_ups(offer, requests)

    assert [request.input_tokens for request in found] == [30] * 5
    assert len({request.prompt[0].content for request in found}) == 5
    assert all(request.prompt[0].content >= WARM_UP for request in found)


@pytest.mark.parametrize(
    ("scale", "block_tokens", "warned"),
    [(0.125, 64, False), (0.1, 64, True), (1.0, 16, False), (0.0625, 64, True), (0.1, None, False)],
)
def test_scaled_blocks_that_fill_no_whole_blocks_are_warned_of(
    scale: float, block_tokens: int | None, warned: bool
) -> None:
    offer = replace(TRACE, length_scale=scale)
    assert bool(block_warning(offer, offered(offer, ROWS), block_tokens)) == warned
    random = Offer(length_scale=scale, requests=1)
    assert block_warning(random, offered(random), block_tokens) == ""


def test_the_warning_says_what_does_not_fit() -> None:
    offer = replace(TRACE, length_scale=0.1)
    found = block_warning(offer, offered(offer, ROWS), 64)
    assert "makes the trace's blocks 51 tokens, no multiple of the server's 64" in found


def test_what_makes_no_workload_is_said() -> None:
    with pytest.raises(ValueError, match="no lengths"):
        offered(Offer(range_ratio=1.0))
    with pytest.raises(ValueError, match="no workload 'other'"):
        offered(Offer("other"))
    with pytest.raises(ValueError, match="a share to cancel is from 0 to 1"):
        leaving(Offer(cancel_share=2.0), ())


def test_settings_describe_themselves_without_secrets() -> None:
    described = RunSettings(target=Endpoint(key="secret", headers=(("x-key", "hidden"),))).described()

    assert "secret" not in json.dumps(described)
    assert "hidden" not in json.dumps(described)
    assert (described["target"], described["rate_per_s"]) == ("server", "inf")
    assert RunSettings(Offer(rate_per_s=inf), Simulated(("--prefill", "2"))).described()["target"] == "simulator"


def test_conversations_begin_when_told_and_each_turn_holds_what_was_said() -> None:
    question, answer, more, last = Span(0, 8), Span(1, 4), Span(2, 6), Span(3, 2)
    whole = Conversation((((question,), answer), ((more,), last)))
    found = offered(Offer("trace", rate_per_s=1.0, think_s=0.0), Trace([], conversations=(whole, whole)))

    first, second, third, fourth = found.requests
    assert (first.prompt, first.output, first.after) == ((question,), answer, None)
    assert (second.prompt, second.output, second.after) == ((question, answer, more), last, 0)
    assert (third.after, fourth.after) == (None, 2)
    assert third.at_s > first.at_s


def test_rows_have_times_of_their_own_and_conversations_have_none() -> None:
    with pytest.raises(ValueError, match="times of its own, so --request-rate says nothing"):
        offered(replace(TRACE, rate_per_s=2.0), ROWS)
    conversations = Trace([], conversations=(Conversation((((Span(0, 1),), Span(1, 1)),)),))
    with pytest.raises(ValueError, match="no times, so --speed says nothing"):
        offered(replace(TRACE, speed=2.0), conversations)
