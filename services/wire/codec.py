"""Translate between values and wire messages, both ways: what many messages are made of.

Pairs ``x_to_wire`` and ``x_from_wire``, here and in the other codecs; what goes out comes back equal. Bad
messages raise WireError with a sentence, so that nothing behind these files meets
half a value. No decision is taken here.
"""

import math
import struct
from collections.abc import Iterable, Sequence

from kvstore.layout import Identity, KvLayout
from kvstore.names import NAME_BYTES, BlockName
from scheduler.vocabulary import Lifted, Limits, Priority, Sampling, StoreId, StoreTarget, Urgency
from services.wire.errors import WireError
from services.wire.pb import common_pb2, store_pb2, worker_pb2

_NAME = struct.Struct(f"{NAME_BYTES}s")


def names_to_wire(names: Iterable[BlockName]) -> bytes:
    """Names back to back, 16 bytes each."""
    return b"".join(names)


def names_from_wire(data: bytes) -> tuple[BlockName, ...]:
    if len(data) % NAME_BYTES:
        raise WireError(f"names are {NAME_BYTES} bytes each, and {len(data)} bytes came")
    return tuple([BlockName(name) for (name,) in _NAME.iter_unpack(data)])


def name_from_wire(data: bytes) -> BlockName:
    """One name, such as a root."""
    if len(data) != NAME_BYTES:
        raise WireError(f"a name is {NAME_BYTES} bytes, and {len(data)} bytes came")
    return BlockName(data)


def identity_to_wire(identity: Identity) -> common_pb2.Identity:
    return common_pb2.Identity(
        model=identity.model,
        weights=identity.weights,
        dtype=identity.dtype,
        block_tokens=identity.block_tokens,
        layout=identity.layout,
        protocol=identity.protocol,
    )


def identity_from_wire(wire: common_pb2.Identity) -> Identity:
    return Identity(wire.model, wire.weights, wire.dtype, wire.block_tokens, wire.layout, wire.protocol)


def layout_to_wire(layout: KvLayout) -> store_pb2.Layout:
    return store_pb2.Layout(block_tokens=layout.block_tokens, layer_bytes=layout.layer_bytes, axes=layout.axes)


def layout_from_wire(wire: store_pb2.Layout) -> KvLayout:
    try:
        return KvLayout(wire.block_tokens, tuple(wire.layer_bytes), wire.axes)
    except ValueError as error:
        raise WireError(str(error)) from error


def sampling_to_wire(sampling: Sampling) -> common_pb2.Sampling:
    return common_pb2.Sampling(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        seed=sampling.seed,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
    )


def sampling_from_wire(wire: common_pb2.Sampling) -> Sampling:
    if not (math.isfinite(wire.temperature) and wire.temperature >= 0):
        raise WireError(f"temperature must be 0 or more, not {wire.temperature}")
    if not 0 < wire.top_p <= 1:
        raise WireError(f"top_p must be above 0 and at most 1, not {wire.top_p}")
    if not 0 <= wire.min_p <= 1:
        raise WireError(f"min_p must be from 0 to 1, not {wire.min_p}")
    repetition = wire.repetition_penalty if wire.HasField("repetition_penalty") else 1.0
    if not (math.isfinite(repetition) and repetition > 0):
        raise WireError(f"repetition_penalty must be above 0 and finite, not {repetition}")
    for name, penalty in (("presence", wire.presence_penalty), ("frequency", wire.frequency_penalty)):
        if not math.isfinite(penalty):
            raise WireError(f"{name}_penalty must be finite, not {penalty}")
    return Sampling(
        temperature=wire.temperature,
        top_k=wire.top_k,
        top_p=wire.top_p,
        min_p=wire.min_p,
        seed=wire.seed,
        repetition_penalty=repetition,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
    )


def limits_to_wire(limits: Limits) -> common_pb2.Limits:
    return common_pb2.Limits(
        max_tokens=limits.max_tokens, min_tokens=limits.min_tokens, stop_ids=sorted(limits.stop_ids)
    )


def limits_from_wire(wire: common_pb2.Limits) -> Limits:
    if wire.max_tokens < 1:
        raise WireError("max_tokens must be at least 1")
    return Limits(wire.max_tokens, wire.min_tokens, frozenset(wire.stop_ids))


def finite(seconds: float) -> float | None:
    """As an optional field has it: absent where nothing is promised."""
    return seconds if math.isfinite(seconds) else None


def promised_from_wire(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds > 0):
        raise WireError(f"a time that is to be kept is more than 0 s, not {seconds}")
    return seconds


def priority_from_wire(word: str) -> Priority:
    try:
        return Priority(word) if word else Priority.INTERACTIVE
    except ValueError as error:
        raise WireError(f"no priority is called {word!r}") from error


def urgency_to_wire(urgency: Urgency) -> worker_pb2.Urgency:
    return worker_pb2.Urgency(
        ttft_left_s=finite(urgency.ttft_left_s),
        tpot_s=finite(urgency.tpot_s),
        priority=urgency.priority.value,
        cached_tokens=urgency.cached_tokens,
        admitted=urgency.admitted,
    )


def urgency_from_wire(wire: worker_pb2.Urgency) -> Urgency:
    ttft_left_s = wire.ttft_left_s if wire.HasField("ttft_left_s") else math.inf
    if math.isnan(ttft_left_s) or ttft_left_s == -math.inf:
        raise WireError(f"the time that is left is a number of seconds, not {ttft_left_s}")
    return Urgency(
        ttft_left_s,
        promised_from_wire(wire.tpot_s) if wire.HasField("tpot_s") else math.inf,
        priority_from_wire(wire.priority),
        wire.cached_tokens,
        wire.admitted,
    )


def store_target_to_wire(target: StoreTarget | None) -> common_pb2.StoreTarget | None:
    return None if target is None else common_pb2.StoreTarget(store=target.store, address=target.address)


def store_target_from_wire(wire: common_pb2.StoreTarget) -> StoreTarget:
    if not wire.store or not wire.address:
        raise WireError("a store that is to be sent to or fetched from has a name and an address")
    return StoreTarget(StoreId(wire.store), wire.address)


def token_ids(ids: Sequence[int], vocab_size: int, what: str) -> list[int]:
    """The ids as a list; WireError where one is outside the vocabulary."""
    tokens = list(ids)
    if tokens and max(tokens) >= vocab_size:
        raise WireError(f"{what} has token id {max(tokens)}, and the model's vocabulary ends at {vocab_size - 1}")
    return tokens


def lifted_to_wire(lifted: Lifted) -> worker_pb2.Lifted:
    return worker_pb2.Lifted(host=lifted.host, disk=lifted.disk, p2p=lifted.p2p)


def lifted_from_wire(wire: worker_pb2.Lifted) -> Lifted:
    return Lifted(wire.host, wire.disk, wire.p2p)
