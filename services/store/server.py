"""The store over gRPC: one stream per worker, each message one call of the catalog.

The first message is Hello, within a few seconds; a refusal ends the stream with a
sentence. When the stream ends, for whatever reason, its session ends in the same breath.
"""
# ruff: noqa: N802 - methods are named after their RPCs

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from services.store.conversation import Conversation, SessionContext
from services.store.metrics import StoreMetrics
from services.store.node import NoSession, StoreNode
from services.store.session import WorkerSession
from services.wire import codec
from services.wire.answering import Context, Refuse, answering
from services.wire.errors import WireError
from services.wire.pb import common_pb2, store_pb2, store_pb2_grpc

HELLO_S = 10.0


class StoreService(store_pb2_grpc.StoreServicer):
    """Serves one StoreNode."""

    def __init__(self, node: StoreNode, metrics: StoreMetrics) -> None:
        self._node = node
        self._metrics = metrics

    # A coroutine that writes rather than a generator that yields: a cancelled generator is only closed once it is
    # collected, and until then its session would go on.
    async def Session(  # type: ignore[override]
        self, request_iterator: AsyncIterator[store_pb2.ToStore], context: SessionContext
    ) -> None:
        async with answering(context):
            session = await self._hello(request_iterator)
            try:
                await Conversation(self._node, self._metrics, session).run(request_iterator, context)
            finally:
                self._node.end(session)

    async def ResetCache(self, request: common_pb2.Empty, context: Context) -> common_pb2.Empty:
        await self._node.reset()
        return common_pb2.Empty()

    async def _hello(self, messages: AsyncIterator[store_pb2.ToStore]) -> WorkerSession:
        try:
            async with asyncio.timeout(HELLO_S):
                message = await anext(messages)
        except (TimeoutError, StopAsyncIteration) as error:
            raise Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "a session begins with Hello") from error
        if message.WhichOneof("kind") != "hello":
            raise WireError("a session begins with Hello")
        hello = message.hello
        identity, layout = codec.identity_from_wire(hello.identity), codec.layout_from_wire(hello.layout)
        if layout.digest != identity.layout or layout.block_tokens != identity.block_tokens:
            raise WireError(f"worker {hello.worker} says hello with a layout that is not its identity's")
        try:
            await self._node.adopt(identity, layout)
            session = self._node.hello(hello.worker, hello.incarnation, identity, layout, Path(hello.session_file))
        except NoSession as error:
            raise Refuse(grpc.StatusCode.UNAVAILABLE, str(error)) from error
        session.send(store_pb2.FromStore(call=message.call, welcome=self._welcome()))
        return session

    def _welcome(self) -> store_pb2.Welcome:
        layout = self._node.catalog.layout
        assert layout is not None, "adopted by now"
        return store_pb2.Welcome(
            store=self._node.name,
            incarnation=self._node.incarnation,
            arena=str(self._node.arena.path),
            arena_bytes=self._node.arena.size_bytes,
            slot_bytes=layout.slot_bytes,
            slots=self._node.catalog.snapshot().total,
        )
