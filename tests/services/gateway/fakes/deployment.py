"""What all of the cluster that is not there agree on."""

from typing import Any

import grpc

from kvstore.layout import Identity

Context = grpc.aio.ServicerContext[Any, Any]  # Any: one context type serves every call
BLOCK_TOKENS = 16
IDENTITY = Identity("toy", weights="0123", dtype="float32", block_tokens=BLOCK_TOKENS, layout="abcd")
LONGEST = 512
