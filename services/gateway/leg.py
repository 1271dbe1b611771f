"""One worker's part in a story: what it is asked for, and how it fails.

A resumed story is asked for like a new one, with what was given out before as its output: that is computed like the
prompt, and counted for what it is by limits and penalties.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from scheduler.vocabulary import Placement, StoreTarget, Target, Urgency, WorkerId
from services.gateway.generation import Generation
from services.wire.codec import limits_to_wire, sampling_to_wire, store_target_to_wire, urgency_to_wire
from services.wire.errors import PeerError, PeerFailed
from services.wire.pb import worker_pb2


class Leg(Exception):
    """It failed. taken: the worker had begun to work on it."""

    def __init__(self, worker: WorkerId, trouble: PeerError, *, taken: bool) -> None:
        super().__init__(f"{worker}: {trouble}")
        self.worker = worker
        self.trouble = trouble
        self.taken = taken


@contextmanager
def leg(target: Target) -> Iterator[None]:
    """Around a part of a story that one worker plays: its failures are a Leg's."""
    try:
        yield
    except PeerError as trouble:
        raise Leg(target.worker, trouble, taken=isinstance(trouble, PeerFailed)) from trouble


def prefill_request(
    generation: Generation, output: Sequence[int], placement: Placement, target: Target, urgency: Urgency
) -> worker_pb2.PrefillRequest:
    """Of the worker that prefills by this placement."""
    return worker_pb2.PrefillRequest(
        request=placement.request,
        root=generation.root,
        prompt=generation.prompt,
        output=output,
        sampling=sampling_to_wire(generation.sampling),
        limits=limits_to_wire(generation.limits),
        push_to=store_target_to_wire(_elsewhere(placement.decode, than=target)),
        source=store_target_to_wire(placement.source),
        urgency=urgency_to_wire(urgency),
    )


def decode_request(
    generation: Generation, output: Sequence[int], placement: Placement, urgency: Urgency
) -> worker_pb2.DecodeRequest:
    """Of the worker that decodes by this placement; of a handoff, without its first token."""
    target, prefilled = placement.decode, placement.prefill
    source = placement.source if prefilled is None else _elsewhere(prefilled, than=target)
    return worker_pb2.DecodeRequest(
        request=placement.request,
        root=generation.root,
        prompt=generation.prompt,
        output=output,
        sampling=sampling_to_wire(generation.sampling),
        limits=limits_to_wire(generation.limits),
        handed_over=prefilled is not None,
        source=store_target_to_wire(source),
        urgency=urgency_to_wire(urgency),
    )


def _elsewhere(target: Target, *, than: Target) -> StoreTarget | None:
    """The store of a worker, where it is another than that of ``than``: what is for it has a way to go."""
    return None if target.store == than.store else target.store
