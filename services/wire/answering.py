"""How a server says no: each reason has one gRPC status, and a sentence.

The mirror of errors.rpc_errors, which turns these back into exceptions at the caller's. Each is marked as ours.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from kvstore.vocabulary import IdentityMismatch
from services.wire.errors import MARK, WireError

Context = grpc.aio.ServicerContext[Any, Any]  # Any: the message types don't matter to who aborts


class Refuse(Exception):
    """End this call with a status and a sentence."""

    def __init__(self, status: grpc.StatusCode, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@asynccontextmanager
async def answering(context: Context) -> AsyncIterator[None]:
    """Around a handler: malformed messages, mismatched identities and refusals end the call as they should."""
    try:
        yield
    except Refuse as refusal:
        await context.abort(refusal.status, str(refusal), (MARK,))
    except WireError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error), (MARK,))
    except IdentityMismatch as error:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error), (MARK,))
