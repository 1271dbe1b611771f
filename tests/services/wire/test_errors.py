"""What grpc says of a call that failed, in our words."""

from pathlib import Path

import pytest

from services.wire.channel import open_channel
from services.wire.errors import PeerUnavailable, rpc_errors
from services.wire.pb.common_pb2 import Empty
from services.wire.pb.store_pb2_grpc import StoreStub


async def test_where_nobody_listens_is_told_in_a_few_words(tmp_path: Path) -> None:
    async with open_channel(f"unix:{tmp_path}/s", None) as channel:
        with pytest.raises(PeerUnavailable) as raised, rpc_errors():
            await StoreStub(channel).Enter(Empty(), timeout=10.0)
    assert str(raised.value) == "no connection: No such file or directory"
