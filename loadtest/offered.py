"""From what a run is told to the requests that it offers. Pure: the same offer is the same requests, whoever serves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from math import ceil, inf
from random import Random

from loadtest.request import Request, Span
from loadtest.settings import DEFAULT_REQUESTS, Offer
from loadtest.traces import Conversation, Trace
from loadtest.traces import requests as replayed
from loadtest.workload import chats, ramps, shared_prefixes, swarm
from loadtest.workload.arrivals import planned
from loadtest.workload.chats import Chat
from loadtest.workload.lengths import Lengths
from loadtest.workload.prefixes import Mix
from loadtest.workload.random_lengths import random_lengths
from loadtest.workload.swarms import Swarm

MOST_PER_S = 1000
"""Requests held ready for each second of a run that has a duration and neither a rate nor a number."""

WARM_UP = 0xFFFF_0000
"""Contents from here on are those of warm-ups; what they leave in caches, nobody asks for again."""

MOST_BRANCH_TOKENS = 100_000
"""Of an agent's prompt, where no longest is given."""

WIDE = 1.7
"""Mean by median of lengths that vary as those of chat services do, by a log-normal."""


@dataclass(frozen=True, slots=True)
class Offered:
    """requests: in the order of their places. left_out: of a trace, what was longer than asked for."""

    requests: tuple[Request, ...]
    left_out: int = 0
    shared_tokens: int | None = None
    """Of a trace whose rows name blocks: tokens of a block as it is replayed."""


def offered(offer: Offer, trace: Trace | None = None) -> Offered:
    """trace: where the workload is one. Raises ValueError with a sentence."""
    chance = Random(offer.seed)
    if offer.workload == "trace":
        assert trace is not None, "a trace is replayed"
        made = _replayed(trace, offer, chance)
    else:
        made = _made(offer, chance)
    fits = _short_enough(made, offer.longest)
    asked = fits[: offer.requests]
    if offer.duration_s is not None:
        asked = _before(asked, offer.duration_s)
    shared = None
    if trace is not None and trace.rows:
        shared = max(1, round(trace.block_tokens * offer.length_scale))
    return Offered(tuple(asked), left_out=len(made) - len(fits), shared_tokens=shared)


def leaving(offer: Offer, requests: Sequence[Request]) -> dict[int, int]:
    """By place: after how many tokens the harness leaves, of those that it will leave. The same for every target."""
    if not 0.0 <= offer.cancel_share <= 1.0:
        raise ValueError(f"a share to cancel is from 0 to 1, not {offer.cancel_share}")
    chance = Random(f"cancel {offer.seed}")
    found = {}
    for place, request in enumerate(requests):
        leaves, after = chance.random() < offer.cancel_share, chance.random()
        if leaves and request.output_tokens > 1:
            found[place] = 1 + int(after * (request.output_tokens - 1))
    return found


def warm_ups(offer: Offer, requests: Sequence[Request]) -> list[Request]:
    """As long as the first requests, of tokens that none of them has."""
    return [
        Request(0.0, (each.prompt[0]._replace(content=WARM_UP + 2 * place, tokens=each.input_tokens),), each.output)
        for place, each in enumerate(islice(cycle(requests), offer.warmups))
    ]


def block_warning(offer: Offer, whole: Offered, block_tokens: int | None) -> str:
    """A sentence where scaled blocks of a trace don't fill whole blocks of the server, so that reuse would be lost."""
    if whole.shared_tokens is None or block_tokens is None or whole.shared_tokens % block_tokens == 0:
        return ""
    return (
        f"--length-scale {offer.length_scale:g} makes the trace's blocks {whole.shared_tokens} tokens, no multiple of "
        f"the server's {block_tokens}: prefixes that requests share would be reused less than in the trace"
    )


def check_own_times(offer: Offer) -> None:
    """Raises ValueError for arrivals that a trace with times has no use for."""
    told = {
        "--request-rate": offer.rate_per_s != inf,
        "--burstiness": offer.burstiness != 1.0,
        "--ramp-up-strategy": offer.ramp is not None,
    }
    if given := [name for name, is_told in told.items() if is_told]:
        raise ValueError(f"a trace has times of its own, so {given[0]} says nothing: --speed replays it faster")


def _replayed(trace: Trace, offer: Offer, chance: Random) -> list[Request]:
    """Rows at their own times; conversations, which have none, at those that are asked for."""
    if trace.conversations:
        if offer.speed != 1.0:
            raise ValueError("conversations have no times, so --speed says nothing: --request-rate says how many begin")
        return _conversations(trace.conversations, offer, chance)
    check_own_times(offer)
    return replayed(trace.rows, speed=offer.speed, length=offer.length_scale, block_tokens=trace.block_tokens)


def _conversations(kept: Sequence[Conversation], offer: Offer, chance: Random) -> list[Request]:
    """Each begins at an arrival; its next turn follows the answer to the last, after its reader has thought."""
    starts = (
        ramps.planned(len(kept), offer.ramp, offer.burstiness, chance)
        if offer.ramp is not None
        else planned(len(kept), offer.rate_per_s, offer.burstiness, chance)
    )
    asked: list[Request] = []
    for start_s, conversation in zip(starts, kept, strict=True):
        said: tuple[Span, ...] = ()
        after: int | None = None
        for prompt, answer in conversation.turns:
            said += tuple(_scaled(span, offer.length_scale) for span in prompt)
            given = _scaled(answer, offer.length_scale)
            at_s = start_s if after is None else chance.expovariate(1.0) * offer.think_s
            asked.append(Request(at_s, said, given, after))
            after = len(asked) - 1
            said += (given,)
    return asked


def _scaled(span: Span, length: float) -> Span:
    return span._replace(tokens=max(1, round(span.tokens * length)))


def _short_enough(requests: Sequence[Request], longest: int | None) -> list[Request]:
    return _kept(requests, lambda each: longest is None or each.input_tokens + each.output_tokens <= longest)


def _before(requests: Sequence[Request], duration_s: float) -> list[Request]:
    """When those come that follow another, nobody knows; the driver looks at the time."""
    return _kept(requests, lambda each: each.after is not None or each.at_s < duration_s)


def _kept(requests: Sequence[Request], keep: Callable[[Request], bool]) -> list[Request]:
    """Those, but none that would follow one that is left out; places are given anew."""
    places: dict[int, int] = {}
    kept: list[Request] = []
    for place, each in enumerate(requests):
        if keep(each) and (each.after is None or each.after in places):
            places[place] = len(kept)
            kept.append(each if each.after is None else replace(each, after=places[each.after]))
    return kept


def _made(offer: Offer, chance: Random) -> list[Request]:
    match offer.workload:
        case "random":
            return random_lengths(
                _arrivals(offer, chance), offer.input_len, offer.output_len, offer.range_ratio, chance=chance
            )
        case "shared-prefix":
            mix = Mix(
                offer.prefixes,
                Lengths(offer.prefix_len, offer.prefix_len),
                offer.skew,
                _varying(offer.input_len),
                _varying(offer.output_len),
            )
            arrivals = _arrivals(offer, chance)
            return shared_prefixes(iter(arrivals), len(arrivals), mix, chance=chance)
        case "chats":
            chat = Chat(
                offer.prefix_len, offer.turns, _varying(offer.input_len), _varying(offer.output_len), offer.think_s
            )
            arrivals = _arrivals(offer, chance)
            return chats(iter(arrivals), len(arrivals), chat, chance=chance)
        case "swarm":
            return _swarms(offer, chance)
        case other:
            raise ValueError(f"no workload {other!r}")


def _swarms(offer: Offer, chance: Random) -> list[Request]:
    """As they arrive, until there are requests enough."""
    kind = Swarm(
        root_tokens=offer.prefix_len,
        branches=offer.branches,
        turns=offer.turns,
        result=_varying(offer.input_len),
        answer=_varying(offer.output_len),
        tool_s=offer.think_s,
        most_tokens=offer.longest or MOST_BRANCH_TOKENS,
    )
    asked: list[Request] = []
    contents = 0
    for at_s in _arrivals(offer, chance):
        if offer.requests is not None and len(asked) >= offer.requests:
            break
        one = swarm(kind, start_s=at_s, contents=contents, chance=chance)
        first, contents = len(asked), contents + 2 + 2 * kind.branches * kind.turns
        asked += [each if each.after is None else replace(each, after=first + each.after) for each in one]
    return asked


def _arrivals(offer: Offer, chance: Random) -> list[float]:
    """How many: as told, else what the duration takes, else a thousand."""
    number = offer.requests
    if number is None and offer.duration_s is None:
        number = DEFAULT_REQUESTS
    if offer.ramp is not None:
        number = number or offer.ramp.number(offer.duration_s or 0.0)
        return ramps.planned(number, offer.ramp, offer.burstiness, chance)
    if number is None:
        if offer.rate_per_s == inf and offer.max_concurrency is None:
            raise ValueError(
                "a duration alone would send everything at once: it needs --request-rate, a ramp, or --max-concurrency"
            )
        rate_per_s = MOST_PER_S if offer.rate_per_s == inf else offer.rate_per_s
        number = max(1, ceil((offer.duration_s or 0.0) * rate_per_s))
    return planned(number, offer.rate_per_s, offer.burstiness, chance)


def _varying(median: int) -> Lengths:
    return Lengths(median, median * WIDE)
