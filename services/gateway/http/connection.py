"""One client's connection: uvicorn's HTTP/1.1 over httptools, with bounds on what it waits for and what it is sent.

A connection always waits for one thing, and ``_Waiting`` says which; each but a running request has a deadline:

    HEAD   a request's head: from accepting, or from the head's first byte
    BUSY   our own answer (what a body may take is the business of ``body.py``, as the app reads it)
    REST   the rest of a body whose request was answered without it
    IDLE   the next request

What is refused here is answered in OpenAI's shape, counted, and the connection closed; nothing is logged above debug,
as any client can cause it as often as it likes.
"""

import json
import logging
from asyncio import BaseTransport, TimerHandle, Transport
from collections.abc import Callable
from enum import Enum
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from services.gateway.errors import ApiError
from services.gateway.http.limits import (
    LINGER_S,
    LONGEST_HEAD,
    LONGEST_TARGET,
    MOST_HEADERS,
    MOST_PIPELINED,
    Limits,
    bad_head,
    framing_too_long,
    head_too_late,
    head_too_long,
    target_too_long,
    too_many_headers,
)

FRAMING_FACTOR = 8
"""Bytes of framing for each byte of a chunked body, beside ``LONGEST_HEAD``: chunks of one byte have five."""

UNSENT_S = 60.0
"""For a client to take what is still unsent when its connection is to be closed."""

BROKEN = "broken"
"""In a request's state: the error that its body's transfer ended with."""

UPGRADING = (b"upgrade", b"connection", b"http2-settings")

log = logging.getLogger(__name__)


class _Waiting(Enum):
    HEAD = "a request's head"
    BUSY = "our answer"
    REST = "the rest of a body"
    IDLE = "the next request"


class Shared:
    """What all connections of one server share. refused: told each status that a connection was closed with.

    waiting: connections without a request, since when, the longest first; any of them can be closed to make room.
    """

    def __init__(self, limits: Limits, refused: Callable[[int], None]) -> None:
        self.limits = limits
        self.refused = refused
        self.waiting: dict[Connection, float] = {}


class Connection(HttpToolsProtocol):
    """See the module."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], shared: Shared) -> None:
        super().__init__(config, server_state, app_state)
        self._shared = shared
        self._waiting: _Waiting | None = None
        self._timer: TimerHandle | None = None
        self._in_head = False
        self._in_body = False
        self._deaf = False  # what still comes is not looked at
        self._ended = False
        self._refusal: ApiError | None = None  # of the head that is being parsed
        self._upgrading = False
        self._target_bytes = 0
        self._overhead = 0  # bytes that were fed and are no body: of this head, or since it
        self._body_bytes = 0
        self._unanswered: list[RequestResponseCycle] = []

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast(Transport, transport))
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._shared.waiting.pop(self, None)
        super().connection_lost(exc)
        for cycle in self._unanswered:  # uvicorn tells only the last request, not the one before it that is running
            cycle.disconnected = True
            cycle.message_event.set()
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._feed(data)
        self._look()

    def _feed(self, data: bytes) -> None:
        self._overhead += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._refusal is None:
                self._go_on_as_before(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refusal = self._refusal or bad_head(_in_words(error))
        if self._in_head and self._overhead > LONGEST_HEAD:
            self._refusal = self._refusal or head_too_long()
        elif self._in_body and self._overhead > LONGEST_HEAD + FRAMING_FACTOR * self._body_bytes:
            self._refusal = self._refusal or framing_too_long()
        if self._refusal is not None and not self._deaf:
            self._refuse(self._refusal)

    def _go_on_as_before(self, rest: bytes) -> None:
        """A client may offer another protocol (Java's HttpClient offers h2c with every request) and is answered in
        this one. httptools takes what follows such a head for the other protocol, the body too, so the head is parsed
        again without the offer."""
        kept = [(name, value) for name, value in self.headers if name not in UPGRADING]
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in kept]
        self._upgrading = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    # What the parser tells

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._in_body = True, False
        self._target_bytes = self._body_bytes = 0
        self._overhead = min(self._overhead, LONGEST_HEAD)  # what came before it in these bytes was another request's

    def on_url(self, url: bytes) -> None:
        self._target_bytes += len(url)
        if self._target_bytes > LONGEST_TARGET:
            self._refusal = self._refusal or target_too_long()
        else:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which nothing here reads
        if len(self.headers) >= MOST_HEADERS:
            self._refusal = self._refusal or too_many_headers()
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._target_bytes + sum(len(name) + len(value) + 4 for name, value in self.headers) > LONGEST_HEAD:
            self._refusal = self._refusal or head_too_long()
        if self.parser.get_method() == b"CONNECT":
            self._refusal = self._refusal or bad_head("CONNECT is for proxies")
        self._in_head, self._in_body, self._overhead = False, True, 0
        if self._refusal is not None or self._deaf:
            return
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        super().on_headers_complete()
        self._unanswered = [*(each for each in self._unanswered if not each.response_complete), self.cycle]
        self.cycle.transport = cast(Transport, _Closing(self.transport, self._close))
        if len(self.pipeline) >= MOST_PIPELINED:
            self._end_after_this()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        self._body_bytes += len(body)
        if self._refusal is None and not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = self._in_body = False
        if self._refusal is None and not self._deaf and not self._upgrading:
            super().on_message_complete()
            self._overhead = 0

    def on_response_complete(self) -> None:
        if self._ended:
            self.pipeline.clear()
            return
        if self._in_body and self.expect_100_continue:
            self._close()  # what comes next may be the body, or another request: RFC 9110 leaves that to the client
            return
        super().on_response_complete()
        self._unset_keepalive_if_required()  # ``_look`` has its own
        if not self.transport.is_closing() and not self._deaf:
            self._look()

    # What is waited for

    def _look(self) -> None:
        """Note what is waited for; its time begins when it changes."""
        if self._deaf or self.transport.is_closing():
            return
        waiting = self._what()
        if waiting is self._waiting:
            return
        self._waiting = waiting
        self._disarm()
        self._shared.waiting.pop(self, None)
        limits = self._shared.limits
        match waiting:
            case _Waiting.BUSY:
                return
            case _Waiting.IDLE:
                seconds = limits.keep_alive_s
            case _Waiting.REST:
                seconds = limits.body_s
            case _Waiting.HEAD:
                seconds = limits.head_s
        self._shared.waiting[self] = self.loop.time()
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _what(self) -> _Waiting:
        if self.cycle is not None and not self.cycle.response_complete:
            return _Waiting.BUSY
        if self._in_body:
            return _Waiting.REST
        return _Waiting.HEAD if self._in_head or self.cycle is None else _Waiting.IDLE

    def _too_late(self) -> None:
        self._timer = None
        if self._waiting is _Waiting.HEAD and self._in_head:
            self._refuse(head_too_late(self._shared.limits.head_s))
        else:
            self._close()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # How it ends

    def _refuse(self, error: ApiError) -> None:
        """Answer a head that becomes no request, and close. A running request is told where it was its body's transfer
        that broke, and else completed."""
        log.debug("refused with %d: %s", error.status, error.message)
        if self.cycle is not None and not self.cycle.response_complete:
            if self._in_body:
                self.cycle.scope["state"][BROKEN] = error
                self.cycle.message_event.set()
            self._end_after_this()
            return
        self._shared.refused(error.status)
        self._deaf = True
        self.transport.write(answer(error))
        self._close()

    def _end_after_this(self) -> None:
        """No further request is taken of this connection, which is closed after those that there are."""
        self._deaf = True
        self.cycle.keep_alive = False

    def _close(self) -> None:
        """At once where all was read and is sent, else within ``LINGER_S`` or ``UNSENT_S``."""
        unread = self._deaf or self._in_head or self._in_body
        self._deaf = self._ended = True
        self._disarm()
        self._shared.waiting.pop(self, None)
        if unread and self.transport.can_write_eof():  # closing with unread bytes would reset it, and lose our answer
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()
        seconds = UNSENT_S if self.has_unsent else LINGER_S
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    @property
    def has_unsent(self) -> bool:
        """Its client has not yet taken all of an answer."""
        return self.transport.get_write_buffer_size() > 0


class _Closing:
    """What a uvicorn cycle uses of its transport, with another way to close it."""

    def __init__(self, transport: Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


def answer(error: ApiError) -> bytes:
    """As it goes over the wire; the connection is closed after it."""
    body = json.dumps(error.body, ensure_ascii=False).encode()
    headers = {**error.headers, "content-type": "application/json", "content-length": str(len(body))}
    lines = [f"{name}: {value}\r\n".encode() for name, value in {**headers, "connection": "close"}.items()]
    return b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body])


def _in_words(error: httptools.HttpParserError) -> str:
    """The parser's own words; of a head that it can read and uvicorn can't, no more than that."""
    if isinstance(error, httptools.HttpParserCallbackError):
        log.debug("a head that was parsed can't be used", exc_info=error)
        return "its line can't be read"
    return str(error) or "it can't be parsed"
