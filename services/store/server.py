"""The store over gRPC: where workers come in, and what gateways may ask."""
# ruff: noqa: N802 - methods are named after their RPCs

from services.store.door import Door
from services.store.node import StoreNode
from services.wire.answering import Context
from services.wire.pb import common_pb2, store_pb2, store_pb2_grpc


class StoreService(store_pb2_grpc.StoreServicer):
    """Serves one StoreNode. Bytes and names go another way: see ``services.store.door``."""

    def __init__(self, node: StoreNode, door: Door) -> None:
        self._node = node
        self._door = door

    async def Enter(self, request: common_pb2.Empty, context: Context) -> store_pb2.Door:
        return store_pb2.Door(socket=str(self._door.path))

    async def ResetCache(self, request: common_pb2.Empty, context: Context) -> common_pb2.Empty:
        await self._node.reset()
        return common_pb2.Empty()
