"""The worker over gRPC: each call is the life of one ticket.

Leaving a call's block, because it is done, cancelled or broken, frees everything it
had. A stream that can't be continued ends with a status, never as if it were complete.
"""
# ruff: noqa: N802 - methods are named after their RPCs

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import grpc

from kvstore.device import DeviceBlocks
from scheduler.progress import FirstToken
from scheduler.sequence import Running
from scheduler.vocabulary import NOTHING_LIFTED, RequestId, StoreTarget
from services.runtime.logs import fields
from services.wire.answering import Context, Refuse, answering
from services.wire.codec import lifted_to_wire
from services.wire.errors import WireError
from services.wire.greeting import Greeting
from services.wire.pb import common_pb2, worker_pb2, worker_pb2_grpc
from services.worker.loop import Ending, Full, Loop, NeverFits
from services.worker.metrics import WorkerMetrics
from services.worker.requests import Requests, push_target, source
from services.worker.stream import StreamBroken, StreamCut
from services.worker.ticket import Ticket

LONGEST_HANDOFF_S = 120.0
"""How long a handoff waits to be taken where the caller gives no deadline: it holds slots that others could use."""


log = logging.getLogger(__name__)


class WorkerService(worker_pb2_grpc.WorkerServicer):
    """Serves one Loop."""

    def __init__(
        self, loop: Loop, device: DeviceBlocks, requests: Requests, metrics: WorkerMetrics, greeting: Greeting
    ) -> None:
        self._loop = loop
        self._greeting = greeting
        self._device = device
        self._requests = requests
        self._metrics = metrics

    # Coroutines that write rather than generators that yield: a cancelled generator is only closed once it is
    # collected, and until then its request would go on.
    async def Prefill(  # type: ignore[override]
        self, request: worker_pb2.PrefillRequest, context: Context
    ) -> None:
        async with answering(context):
            await self._greeting.send(context)
            sequence = self._requests.prefill(request)
            with self._entered(
                request.request, sequence, push_to=push_target(request), source=source(request)
            ) as ticket:
                await ticket.stream.first_comes()
                awaited = await _awaited(ticket)
                if awaited and ticket.handoff is not None:
                    await context.write(worker_pb2.PrefillEvent(last_step=worker_pb2.LastStep()))
                first = await _first_token(ticket)
                if not (first.finished or awaited):
                    self._metrics.push_unanswered()
                await context.write(worker_pb2.PrefillEvent(first=first))
                if not first.finished:
                    await _until_taken(context)

    async def Decode(  # type: ignore[override]
        self, calls: AsyncIterator[worker_pb2.DecodeCall], context: Context
    ) -> None:
        async with answering(context):
            await self._greeting.send(context)
            request = (await _said(calls)).request
            sequence = self._requests.decode(request)
            with self._entered(request.request, sequence, source=source(request)) as ticket:
                if request.handed_over:
                    missing = await ticket.stream.confirmed()
                    await context.write(worker_pb2.DecodeEvent(confirmed=worker_pb2.Confirmed(missing_blocks=missing)))
                    self._loop.begin(ticket, self._requests.first_token(await _said(calls)))
                await _relay(ticket, context)

    async def Account(self, request: worker_pb2.AccountRequest, context: Context) -> common_pb2.Empty:
        async with answering(context):
            self._metrics.requests.account(request)
        return common_pb2.Empty()

    async def ResetCache(self, request: common_pb2.Empty, context: Context) -> common_pb2.Empty:
        self._device.forget()
        return common_pb2.Empty()

    @contextmanager
    def _entered(
        self,
        request: str,
        sequence: Running,
        push_to: StoreTarget | None = None,
        source: StoreTarget | None = None,
    ) -> Iterator[Ticket]:
        """The ticket of one call; reasons for not having it become statuses."""
        try:
            with self._loop.enter(RequestId(request), sequence, push_to=push_to, source=source) as ticket:
                try:
                    yield ticket
                finally:
                    _log_left(ticket)
        except Full as full:
            self._metrics.refused("full")
            raise Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, str(full)) from full
        except NeverFits as never:
            self._metrics.refused("never fits")
            raise Refuse(grpc.StatusCode.INVALID_ARGUMENT, str(never)) from never
        except (Ending, StreamCut) as ending:
            self._metrics.refused("ending")
            raise Refuse(grpc.StatusCode.UNAVAILABLE, str(ending)) from ending
        except StreamBroken as broken:
            raise Refuse(grpc.StatusCode.INTERNAL, str(broken)) from broken


def _log_left(ticket: Ticket) -> None:
    sequence = ticket.sequence
    log.debug(
        "call ended",
        extra=fields(
            request=ticket.request,
            phase=sequence.phase.value,
            prompt_tokens=sequence.prompt,
            output_tokens=sequence.generated,
            cached_tokens=sequence.cached_tokens,
            hand_over=sequence.hand_over,
            handed_over=sequence.handed_over,
        ),
    )


async def _said(calls: AsyncIterator[worker_pb2.DecodeCall]) -> worker_pb2.DecodeCall:
    """The caller's next message."""
    call = await anext(calls, None)
    if call is None:
        raise WireError("the caller has ended its side of the call too early")
    return call


async def _first_token(ticket: Ticket) -> worker_pb2.FirstToken:
    portion = await ticket.stream.next()
    first, finish = portion.first, portion.finish
    assert first is not None, "the first portion tells how it began"
    return worker_pb2.FirstToken(
        token=portion.tokens[0],
        finished=finish is not None,
        finish_reason="" if finish is None else finish.value,
        cached_tokens=first.cached_tokens,
        queue_s=first.queue_s,
        prefill_s=first.prefill_s,
        lifted=_lifted(ticket, first),
    )


def _lifted(ticket: Ticket, first: FirstToken) -> worker_pb2.Lifted:
    """Of its cached tokens, those that came from the store; of a handoff none is a reuse."""
    return lifted_to_wire((ticket.lifted or NOTHING_LIFTED).within(first.cached_tokens))


async def _awaited(ticket: Ticket) -> bool:
    """Whether the handoff's blocks are awaited where they go to; false where that store doesn't say so in time."""
    return ticket.push is None or await ticket.push.answered()


async def _until_taken(context: Context) -> None:
    """Until the caller ends the call, by which this is cancelled; it is told where it forgets to."""
    left_s = context.time_remaining()
    await asyncio.sleep(LONGEST_HANDOFF_S if left_s is None else min(left_s, LONGEST_HANDOFF_S))
    raise Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "nobody took the handoff in time")


async def _relay(ticket: Ticket, context: Context) -> None:
    """Tokens as they come, and how it ended."""
    began = worker_pb2.Began()
    while True:
        portion = await ticket.stream.next()
        tokens = worker_pb2.Tokens(ids=portion.tokens)
        if portion.first is not None:
            began = worker_pb2.Began(
                cached_tokens=portion.first.cached_tokens,
                queue_s=portion.first.queue_s,
                prefill_s=portion.first.prefill_s,
                lifted=_lifted(ticket, portion.first),
            )
            if not ticket.sequence.handed_over:
                tokens.began.CopyFrom(began)
        await context.write(worker_pb2.DecodeEvent(tokens=tokens))
        if portion.finish is not None:
            finished = worker_pb2.Finished(
                reason=portion.finish.value,
                cached_tokens=began.cached_tokens,
                queue_s=began.queue_s,
                prefill_s=began.prefill_s,
                lifted=began.lifted,
            )
            await context.write(worker_pb2.DecodeEvent(finished=finished))
            return
