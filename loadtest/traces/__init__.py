"""Request logs of several formats: read, replayed at other speeds and lengths, and made where there is none."""

from loadtest.traces.mooncake import parse
from loadtest.traces.raw import Unit
from loadtest.traces.synthetic import conversation
from loadtest.traces.trace import BLOCK_TOKENS, Conversation, Row, Trace, TraceError, requests

__all__ = ["BLOCK_TOKENS", "Conversation", "Row", "Trace", "TraceError", "Unit", "conversation", "parse", "requests"]
