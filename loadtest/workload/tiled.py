"""A workload again and again, each time about something else: as long as one likes, and never whole in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from loadtest.request import Request, Span

CONTENTS = 1 << 32


def tiled(requests: Sequence[Request], times: int) -> Iterator[Request]:
    """``times`` copies, one after the other, none sharing a prefix with another; of an open workload, in its order.

    Between two copies lies the mean gap between two requests. Raises ValueError where there are too few numbers for
    all that content, or requests follow one another.
    """
    if any(request.after is not None for request in requests):
        raise ValueError("requests that follow others can't be repeated")
    contents = sorted({span.content for request in requests for span in (*request.prompt, request.output)})
    if len(contents) * times > CONTENTS:
        raise ValueError(f"{times} times {len(contents)} different contents are more than there are numbers for")
    return _tiled(requests, times, {content: place for place, content in enumerate(contents)})


def tile_s(requests: Sequence[Request]) -> float:
    """How long after one copy the next one begins."""
    span_s = max((request.at_s for request in requests), default=0.0)
    return span_s + span_s / max(1, len(requests) - 1)


def _tiled(requests: Sequence[Request], times: int, number: dict[int, int]) -> Iterator[Request]:
    lasts_s = tile_s(requests)
    for copy in range(times):
        first, begins_s = copy * len(number), copy * lasts_s
        for request in requests:
            prompt = tuple(Span(first + number[span.content], span.tokens) for span in request.prompt)
            output = Span(first + number[request.output.content], request.output.tokens)
            yield replace(request, at_s=begins_s + request.at_s, prompt=prompt, output=output)
