"""From a call's message to a sequence for the batcher; whatever the engine could stumble over is refused here.

The batcher's ids are made here: a request that is retried may meet its own former call, which has not ended yet.
"""

from collections.abc import Sequence
from itertools import count

from scheduler.sequence import AWAITED, Running, sequence
from scheduler.vocabulary import Limits, RequestId, StoreTarget
from services.wire.codec import (
    limits_from_wire,
    name_from_wire,
    sampling_from_wire,
    store_target_from_wire,
    token_ids,
    urgency_from_wire,
)
from services.wire.errors import WireError
from services.wire.pb.worker_pb2 import DecodeCall, DecodeRequest, PrefillRequest


class Requests:
    """Makes sequences for one model."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._numbers = count(1)

    def prefill(self, wire: PrefillRequest) -> Running:
        """To be handed over after its first token. Raises WireError."""
        return sequence(
            self._key(wire.request),
            root=name_from_wire(wire.root),
            prompt=self._tokens(wire.prompt, "the prompt"),
            output=self._tokens(wire.output, "the output"),
            sampling=sampling_from_wire(wire.sampling),
            limits=self._limits(limits_from_wire(wire.limits)),
            hand_over=True,
            urgency=urgency_from_wire(wire.urgency),
        )

    def decode(self, wire: DecodeRequest) -> Running:
        """To be run to its end; what was handed over awaits its first token. Raises WireError."""
        return sequence(
            self._key(wire.request),
            root=name_from_wire(wire.root),
            prompt=self._tokens(wire.prompt, "the prompt"),
            output=[*self._tokens(wire.output, "the output"), *([AWAITED] if wire.handed_over else [])],
            sampling=sampling_from_wire(wire.sampling),
            limits=self._limits(limits_from_wire(wire.limits)),
            handed_over=wire.handed_over,
            urgency=urgency_from_wire(wire.urgency),
        )

    def first_token(self, wire: DecodeCall) -> int:
        """A handoff's. Raises WireError."""
        if not wire.HasField("first_token"):
            raise WireError("what follows the request of a handoff is its first token")
        return self._tokens([wire.first_token], "the first token")[0]

    def _key(self, request: str) -> RequestId:
        if not request:
            raise WireError("a request has an id")
        return RequestId(f"{request}#{next(self._numbers)}")

    def _tokens(self, ids: Sequence[int], what: str) -> list[int]:
        return token_ids(ids, self._vocab_size, what)

    def _limits(self, limits: Limits) -> Limits:
        token_ids(sorted(limits.stop_ids), self._vocab_size, "the list of stop ids")
        return limits


def push_target(wire: PrefillRequest) -> StoreTarget | None:
    """The store of whoever will decode. Raises WireError."""
    return store_target_from_wire(wire.push_to) if wire.HasField("push_to") else None


def source(wire: PrefillRequest | DecodeRequest) -> StoreTarget | None:
    """The store that may have more of the prefix than the own one. Raises WireError."""
    return store_target_from_wire(wire.source) if wire.HasField("source") else None
