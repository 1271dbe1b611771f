"""A worker that computes nothing: it says the alphabet, and fails as told."""
# ruff: noqa: N802 - methods are named after their RPCs

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from scheduler.vocabulary import Profile, Role, StoreId, WorkerId, WorkerReport
from services.wire.errors import MARK
from services.wire.greeting import Greeting
from services.wire.pb import common_pb2, worker_pb2, worker_pb2_grpc
from services.wire.served import Served
from services.worker.request_metrics import RequestMetrics
from tests.services.gateway.fakes.deployment import IDENTITY, LONGEST, Context


def letter(position: int) -> int:
    """The token at a position of an answer: the alphabet, again and again."""
    return ord("a") + position % 26


def alphabet(count: int, start: int = 0) -> str:
    return "".join(chr(letter(position)) for position in range(start, start + count))


@dataclass
class Fault:
    """What goes wrong in one call, after so many tokens of it. hold: it goes silent; else a status ends it.

    late: of a prefill, at the end of its last step.
    """

    after: int = 0
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    sentence: str = "the worker is gone"
    hold: bool = False
    late: bool = False


class FakeWorker(worker_pb2_grpc.WorkerServicer):
    """Its tokens are ``token(position)``. faults: of the next calls, one each. open: calls that are going on."""

    def __init__(self, name: str, address: str, role: Role) -> None:
        self.name, self.address, self.role = WorkerId(name), address, role
        self.identity = IDENTITY
        self.draining = False
        self.shy = False
        """It does not say who it is."""
        self.token: Callable[[int], int] = letter
        self.cached_tokens = 0
        self.lifted = worker_pb2.Lifted()
        self.portion = 1
        self.faults: list[Fault] = []
        self.prefills: list[worker_pb2.PrefillRequest] = []
        self.decodes: list[worker_pb2.DecodeRequest] = []
        self.firsts: list[int] = []
        """Tokens from which handoffs went on."""
        self.says_last_step = True
        self.deadlines_s: list[float] = []
        self.resets = 0
        self.registry = CollectorRegistry()
        labels = {"model_name": "toy", "engine": "0", "role": role.value}
        self.requests = RequestMetrics(self.registry, labels, max_model_len=LONGEST)
        self.open = 0
        self.changed = asyncio.Condition()
        self.gate = asyncio.Event()  # shut, no more tokens come
        self.gate.set()
        self.last_step = asyncio.Event()  # unset, a prefill's last step goes on
        self.last_step.set()
        self.server: Served | None = None

    async def Prefill(self, request: worker_pb2.PrefillRequest, context: Context) -> None:  # type: ignore[override]
        await self._greet(context)
        self.prefills.append(request)
        async with self._call(context) as fault:
            if fault is not None and not fault.late:
                await _fail(fault, context)
            if self.says_last_step:
                await context.write(worker_pb2.PrefillEvent(last_step=worker_pb2.LastStep()))
            await self.last_step.wait()
            if fault is not None:
                await _fail(fault, context)
            token = self.token(0)
            stop = token in request.limits.stop_ids
            length = request.limits.max_tokens == 1
            first = worker_pb2.FirstToken(
                token=token,
                finished=stop or length,
                finish_reason="stop" if stop else "length" if length else "",
                cached_tokens=self.cached_tokens,
                queue_s=0.001,
                prefill_s=0.002,
            )
            await context.write(worker_pb2.PrefillEvent(first=first))
            if not first.finished:
                await asyncio.Event().wait()  # until the caller ends it

    async def Decode(  # type: ignore[override]
        self, calls: AsyncIterator[worker_pb2.DecodeCall], context: Context
    ) -> None:
        await self._greet(context)
        request = (await anext(calls)).request
        self.decodes.append(request)
        async with self._call(context) as fault:
            position = len(request.output)
            if request.handed_over:
                self.firsts.append((await anext(calls)).first_token)
                position += 1
                await _write(context, worker_pb2.DecodeEvent(confirmed=worker_pb2.Confirmed()))
            began = worker_pb2.Began(
                cached_tokens=self.cached_tokens, queue_s=0.001, prefill_s=0.002, lifted=self.lifted
            )
            given = 0
            while True:
                if fault is not None and given >= fault.after:
                    await _fail(fault, context)
                await self.gate.wait()
                ids, reason = self._portion(request, position)
                tokens = worker_pb2.Tokens(ids=ids)
                if given == 0 and not request.handed_over:
                    tokens.began.CopyFrom(began)
                await _write(context, worker_pb2.DecodeEvent(tokens=tokens))
                position, given = position + len(ids), given + len(ids)
                if reason:
                    finished = worker_pb2.Finished(reason=reason, cached_tokens=self.cached_tokens)
                    await _write(context, worker_pb2.DecodeEvent(finished=finished))
                    return

    async def Account(self, request: worker_pb2.AccountRequest, context: Context) -> common_pb2.Empty:
        self.requests.account(request)
        return common_pb2.Empty()

    async def ResetCache(self, request: common_pb2.Empty, context: Context) -> common_pb2.Empty:
        self.resets += 1
        return common_pb2.Empty()

    async def at_rest(self) -> None:
        """Returns once no call is going on."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.open == 0)

    async def called(self) -> None:
        """Returns once a call is going on."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.open > 0)

    def report(self) -> WorkerReport:
        return WorkerReport(
            worker=self.name,
            incarnation=1,
            sequence=1,
            role=self.role,
            address=self.address,
            store=StoreId("store-0"),
            pid=4711,
            identity=self.identity,
            profile=Profile((0, 0, 0), (0, 0, 0)),
            max_num_seqs=8,
            max_model_len=LONGEST,
            draining=self.draining,
            running=self.open,
            waiting=0,
            prefill_tokens_queued=0,
            kv_tokens=0,
            device_blocks_free=10,
            device_blocks_total=10,
        )

    def _portion(self, request: worker_pb2.DecodeRequest, position: int) -> tuple[list[int], str]:
        ids: list[int] = []
        while len(ids) < self.portion:
            ids.append(self.token(position + len(ids)))
            if ids[-1] in request.limits.stop_ids and position + len(ids) > request.limits.min_tokens:
                return ids, "stop"
            if position + len(ids) == request.limits.max_tokens:
                return ids, "length"
        return ids, ""

    async def _greet(self, context: Context) -> None:
        if not self.shy:
            await Greeting.of(self.name, self.identity).send(context)

    @asynccontextmanager
    async def _call(self, context: Context) -> AsyncIterator[Fault | None]:
        self.deadlines_s.append(context.time_remaining() or 0.0)
        self.open += 1
        await self._tell()
        try:
            yield self.faults.pop(0) if self.faults else None
        finally:
            self.open -= 1
            await asyncio.shield(self._tell())

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


async def _write(context: Context, message: Message) -> None:
    await context.write(message)
    await asyncio.sleep(0)  # others have their turn


async def _fail(fault: Fault, context: Context) -> None:
    if fault.hold:
        await asyncio.Event().wait()
    await context.abort(fault.code, fault.sentence, (MARK,))
