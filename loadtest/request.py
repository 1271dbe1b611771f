"""What a workload asks for: when, how long a prompt and answer, and which of it others have too.

A prompt is spans of content. Spans of the same number hold the same tokens wherever they stand, so two
prompts that begin with the same spans share that prefix, in blocks of whatever size a deployment has.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """``tokens`` tokens whose text is a function of ``content``, a number below 2**32."""

    content: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Request:
    """One generation.

    at_s: when it arrives, since the beginning; where it follows another (``after``: that one's place in the
    workload), how long after the end of that one. output: what the model will answer; a chat's next turn has
    the same span in its prompt.
    """

    at_s: float
    prompt: tuple[Span, ...]
    output: Span
    after: int | None = None

    def __post_init__(self) -> None:
        assert self.at_s >= 0.0, "time begins at 0"
        assert self.prompt, "a prompt has a span"
        assert all(span.tokens >= 1 for span in (*self.prompt, self.output)), "a span is empty"

    @property
    def input_tokens(self) -> int:
        return sum(span.tokens for span in self.prompt)

    @property
    def output_tokens(self) -> int:
        return self.output.tokens


def text(spans: Iterable[Span]) -> "array[int]":
    """Token ids of these spans in a row, u32; a span's are all the same, which is as good as any others here."""
    parts = list(spans)
    ids = array("I")
    ids.frombytes(np.repeat([part.content for part in parts], [part.tokens for part in parts]).astype("<u4").tobytes())
    return ids
