"""Translate what gateways and conductors say to each other about one request; the same rules as codec."""

import math
from typing import assert_never

from scheduler.vocabulary import (
    Ask,
    Decision,
    Measured,
    Outcome,
    Placement,
    Promise,
    Rejection,
    RejectionCode,
    RequestId,
    Target,
    WorkerId,
)
from services.wire.codec import (
    finite,
    names_from_wire,
    names_to_wire,
    priority_from_wire,
    promised_from_wire,
    store_target_from_wire,
    store_target_to_wire,
)
from services.wire.errors import WireError
from services.wire.pb import conductor_pb2


def ask_to_wire(ask: Ask, *, within_s: float = 0.0) -> conductor_pb2.Ask:
    """within_s: the call's time-out, 0 where that is not told."""
    return conductor_pb2.Ask(
        request=ask.request,
        names=names_to_wire(ask.names),
        tokens=ask.tokens,
        max_new_tokens=ask.max_new_tokens,
        excluded=sorted(ask.excluded),
        ttft_slo_s=ask.ttft_slo_s,
        tpot_slo_s=ask.tpot_slo_s,
        priority=ask.priority.value,
        tenant=ask.tenant,
        waited_s=ask.waited_s,
        resumed=ask.resumed,
        spent_s=ask.spent_s,
        within_s=within_s,
    )


def ask_from_wire(wire: conductor_pb2.Ask, *, left_s: float | None = None) -> Ask:
    """left_s: of the call's time-out. What is missing has passed since it reached this process."""
    under_way_s = 0.0 if left_s is None or not wire.within_s else max(0.0, wire.within_s - left_s)
    return Ask(
        request=_request(wire.request),
        names=names_from_wire(wire.names),
        tokens=wire.tokens,
        max_new_tokens=wire.max_new_tokens,
        excluded=frozenset(WorkerId(worker) for worker in wire.excluded),
        ttft_slo_s=promised_from_wire(wire.ttft_slo_s) if wire.HasField("ttft_slo_s") else None,
        tpot_slo_s=promised_from_wire(wire.tpot_slo_s) if wire.HasField("tpot_slo_s") else None,
        priority=priority_from_wire(wire.priority),
        tenant=wire.tenant,
        waited_s=wire.waited_s,
        resumed=wire.resumed,
        spent_s=_spent_from_wire(wire.spent_s) + under_way_s,
    )


def answer_to_wire(answer: Placement | Rejection) -> conductor_pb2.PlaceAnswer:
    match answer:
        case Placement():
            return conductor_pb2.PlaceAnswer(request=answer.request, placement=_placement_to_wire(answer))
        case Rejection():
            return conductor_pb2.PlaceAnswer(request=answer.request, rejection=_rejection_to_wire(answer))
        case _:
            assert_never(answer)


def answer_from_wire(wire: conductor_pb2.PlaceAnswer) -> Placement | Rejection:
    request = _request(wire.request)
    match wire.WhichOneof("kind"):
        case "placement":
            return _placement_from_wire(request, wire.placement)
        case "rejection":
            return _rejection_from_wire(request, wire.rejection)
        case _:
            raise WireError("an answer without a placement or a rejection")


def begins_to_wire(request: RequestId) -> conductor_pb2.Begins:
    return conductor_pb2.Begins(request=request)


def begins_from_wire(wire: conductor_pb2.Begins) -> RequestId:
    return _request(wire.request)


def begins_answer_to_wire(refused: Rejection | None) -> conductor_pb2.BeginsAnswer:
    return conductor_pb2.BeginsAnswer(rejection=None if refused is None else _rejection_to_wire(refused))


def begins_answer_from_wire(request: RequestId, wire: conductor_pb2.BeginsAnswer) -> Rejection | None:
    """request: that was asked about."""
    return _rejection_from_wire(request, wire.rejection) if wire.HasField("rejection") else None


def _rejection_to_wire(rejection: Rejection) -> conductor_pb2.Rejection:
    return conductor_pb2.Rejection(
        code=rejection.code.value,
        reason=rejection.reason,
        retry_after_s=rejection.retry_after_s,
        predicted_ttft_s=rejection.predicted_ttft_s,
        futile=rejection.futile,
    )


def _rejection_from_wire(request: RequestId, wire: conductor_pb2.Rejection) -> Rejection:
    try:
        code = RejectionCode(wire.code)
    except ValueError as error:
        raise WireError(f"no rejection is called {wire.code!r}") from error
    predicted_s = wire.predicted_ttft_s if wire.HasField("predicted_ttft_s") else None
    return Rejection(request, code, wire.reason, wire.retry_after_s, predicted_s, wire.futile)


def _placement_to_wire(placement: Placement) -> conductor_pb2.Placement:
    return conductor_pb2.Placement(
        decode=_target_to_wire(placement.decode),
        prefill=None if placement.prefill is None else _target_to_wire(placement.prefill),
        predicted_ttft_s=placement.predicted_ttft_s,
        predicted_tpot_s=placement.predicted_tpot_s,
        predicted_cached_tokens=placement.predicted_cached_tokens,
        source=store_target_to_wire(placement.source),
        second_check=placement.second_check,
        ttft_slo_s=finite(placement.promise.ttft_s),
        tpot_slo_s=finite(placement.promise.tpot_s),
        decision=placement.decision.value,
        admitted=placement.admitted,
    )


def _placement_from_wire(request: RequestId, wire: conductor_pb2.Placement) -> Placement:
    return Placement(
        request=request,
        decode=_target_from_wire(wire.decode),
        prefill=_target_from_wire(wire.prefill) if wire.HasField("prefill") else None,
        predicted_ttft_s=wire.predicted_ttft_s,
        predicted_tpot_s=wire.predicted_tpot_s,
        predicted_cached_tokens=wire.predicted_cached_tokens,
        decision=_decision(wire.decision),
        source=store_target_from_wire(wire.source) if wire.HasField("source") else None,
        second_check=wire.second_check,
        promise=Promise(
            promised_from_wire(wire.ttft_slo_s) if wire.HasField("ttft_slo_s") else math.inf,
            promised_from_wire(wire.tpot_slo_s) if wire.HasField("tpot_slo_s") else math.inf,
        ),
        admitted=wire.admitted,
    )


def _spent_from_wire(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise WireError(f"what has passed of a request's time is 0 s or more, not {seconds}")
    return seconds


def _decision(word: str) -> Decision:
    try:
        return Decision(word)
    except ValueError as error:
        raise WireError(f"no decision is called {word!r}") from error


def _target_to_wire(target: Target) -> conductor_pb2.Target:
    return conductor_pb2.Target(worker=target.worker, address=target.address, store=store_target_to_wire(target.store))


def _target_from_wire(wire: conductor_pb2.Target) -> Target:
    if not wire.worker or not wire.address:
        raise WireError("a placement names a worker and where to call it")
    store = store_target_from_wire(wire.store) if wire.HasField("store") else None
    return Target(WorkerId(wire.worker), wire.address, store)


def outcome_to_wire(
    request: RequestId, outcome: Outcome, measured: Measured | None = None
) -> conductor_pb2.OutcomeReport:
    ttft_s, tpot_s = (None, None) if measured is None else (measured.ttft_s, measured.tpot_s)
    return conductor_pb2.OutcomeReport(request=request, outcome=outcome.value, ttft_s=ttft_s, tpot_s=tpot_s)


def measured_from_wire(wire: conductor_pb2.OutcomeReport) -> Measured | None:
    """What an outcome report says besides; None where nothing was measured."""
    ttft_s = wire.ttft_s if wire.HasField("ttft_s") else None
    tpot_s = wire.tpot_s if wire.HasField("tpot_s") else None
    if any(value is not None and not (math.isfinite(value) and value >= 0) for value in (ttft_s, tpot_s)):
        raise WireError("what was measured is 0 s or more")
    return None if ttft_s is None and tpot_s is None else Measured(ttft_s, tpot_s)


def outcome_from_wire(wire: conductor_pb2.OutcomeReport) -> tuple[RequestId, Outcome]:
    request = _request(wire.request)
    try:
        return request, Outcome(wire.outcome)
    except ValueError as error:
        raise WireError(f"no outcome of a request is called {wire.outcome!r}") from error


def _request(text: str) -> RequestId:
    if not text:
        raise WireError("a request has an id")
    return RequestId(text)
