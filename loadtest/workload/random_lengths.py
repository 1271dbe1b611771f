"""Prompts that share nothing, of lengths around one: the plainest load, and the one that no cache helps with."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from loadtest.request import Request, Span

if TYPE_CHECKING:
    from random import Random


def random_lengths(
    arrivals: Iterable[float], input_len: int, output_len: int, range_ratio: float, *, chance: "Random"
) -> list[Request]:
    """One for each arrival; both lengths uniform within ``1 - range_ratio .. 1 + range_ratio`` times the one given."""
    if min(input_len, output_len) < 1 or not 0.0 <= range_ratio < 1.0:
        raise ValueError(
            f"no lengths: {input_len} and {output_len} tokens with a range ratio of {range_ratio} (from 0 to below 1)"
        )

    def drawn(mean: int) -> int:
        return chance.randint(max(1, int(mean * (1 - range_ratio))), int(mean * (1 + range_ratio)))

    return [
        Request(at_s, (Span(2 * place, drawn(input_len)),), Span(2 * place + 1, drawn(output_len)))
        for place, at_s in enumerate(arrivals)
    ]
