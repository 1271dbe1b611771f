"""Request logs in Mooncake's format: read, replayed at other speeds and lengths, and made where there is none."""

from loadtest.traces.mooncake import Row, TraceError, parse, requests
from loadtest.traces.synthetic import conversation

__all__ = ["Row", "TraceError", "conversation", "parse", "requests"]
