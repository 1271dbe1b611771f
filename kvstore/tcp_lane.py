"""One connection to one peer and the thread that owns it: commands go out, frames come in.

The thread waits for either. It alone touches the socket, the slots of the calls on this connection, and their
state; other threads only ``post`` commands, and calls take turns in having theirs carried out. Blocks go one way on a
connection, and what goes the other way is small, so the two sides can't both be stuck in sending.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock, Thread
from typing import Protocol, TypeVar

from kvstore.frames import Declined, Frame, Hello, Offer, Slices, Want, Welcome
from kvstore.framing import HEADER_BYTES, BadFrame, decode_body, decode_header, encode
from kvstore.layout import KvLayout
from kvstore.tcp_pace import Meter, Run
from kvstore.tcp_wire import Wire, WireFailure
from kvstore.transfer import Failure, Reason

CALLS = 4096
"""Calls that one connection may have at a time; far more than one host serves requests."""

Command = Callable[[], None]


class Call(Protocol):
    """What a connection knows of a call. Its methods are called by the connection's thread."""

    @property
    def deadline(self) -> float | None: ...
    def handle(self, frame: Frame) -> None:
        """Raises BadFrame where this frame has no place in this call."""

    def overdue(self) -> None:
        """The deadline has passed."""

    def ended(self, failure: Failure | None) -> None:
        """The last thing it is told."""


CallT = TypeVar("CallT", bound=Call)


class Side(Protocol):
    """Who opened the connection makes all the difference at its beginning. Called by its thread."""

    def open(self, connection: "Connection") -> Wire:
        """Connect or accept, and exchange hellos; sets the connection's ``layout`` and ``peer``.

        Raises WireFailure, BadFrame.
        """

    def called(self, connection: "Connection", frame: Offer | Want) -> Call:
        """The peer begins a call. Raises BadFrame where it is not its turn."""


class Traffic:
    """Bytes of blocks moved by all connections."""

    def __init__(self) -> None:
        self.meter = Meter()
        self._lock = RLock()
        self.sent = self.received = 0

    def add(self, *, sent: int = 0, received: int = 0) -> None:
        with self._lock:
            self.sent += sent
            self.received += received


class Connection:
    """See the module."""

    def __init__(
        self,
        name: str,
        side: Side,
        arena: memoryview,
        traffic: Traffic,
        *,
        stall_s: float,
        idle_s: float | None,
        on_end: Callable[["Connection"], None],
    ) -> None:
        """idle_s: a connection without calls ends after so long; None: never."""
        self.arena, self.traffic = arena, traffic
        self._side = side
        self.layout: KvLayout
        self.peer = ""
        self.unanswered = 0
        """Blocks sent whole that the peer has not answered for."""
        self._stall_s, self._idle_s, self._on_end = stall_s, idle_s, on_end
        self._calls: dict[int, Call] = {}
        self._highest = 0
        self._lock = RLock()
        self._commands: dict[int, deque[Command]] = {}  # by call; the first is served next
        self._wire: Wire | None = None
        self._closing = self._ended = False
        self._heard = self._used = time.monotonic()
        self._frames = Run(traffic.meter, "")
        self.thread = Thread(target=self._run, name=name, daemon=True)

    # From any thread

    def begin(self, make: Callable[["Connection", int], CallT]) -> CallT | None:
        """One more call of ours: ``make`` is given its number, and posts its first command. None: it has ended."""
        with self._lock:
            if self.is_ending:
                return None
            self._highest += 1
            call = make(self, self._highest)
            self._calls[self._highest] = call
        return call

    def post(self, call: int, command: Command) -> None:
        """Have the thread do it, after what was posted for the same call; nothing, once the connection has ended."""
        with self._lock:
            if not self._ended:
                self._put(call, command)

    def close(self) -> None:
        """Have it end; join the thread to know that it has."""
        with self._lock:
            self._closing = True
            if self._wire is not None:
                self._wire.shut()
                self._wire.wake()

    @property
    def is_ending(self) -> bool:
        """It takes no more calls."""
        return self._closing or self._ended

    # From the thread

    def adopt(self, wire: Wire) -> Wire:
        """Own it from now on, so that ``close`` can shut it."""
        with self._lock:
            self._wire = wire
            if self._closing:
                wire.shut()
        return wire

    def send(self, pieces: Sequence[bytes | memoryview]) -> None:
        assert self._wire is not None, "commands run on an open connection"
        self._wire.send(pieces)

    def receive(self, views: Sequence[memoryview]) -> None:
        assert self._wire is not None, "frames come on an open connection"
        self._wire.receive(views)

    @contextmanager
    def flowing(self, frame: Slices) -> Iterator[None]:
        """The bytes behind this frame, which was read just now, are received."""
        assert self._wire is not None, "frames come on an open connection"
        self._frames.begins(now=self._heard, waiting_bytes=self._wire.waiting_bytes)
        try:
            yield
        except BaseException:
            self._frames.breaks(now=time.monotonic())
            raise
        self._frames.ends(frame.bulk_bytes, sharing=frame.sharing, now=time.monotonic())

    def expect(self, answers: int) -> None:
        """So many blocks more are to be answered for (or less, where they were)."""
        if not self.unanswered:
            self._heard = time.monotonic()
        self.unanswered += answers

    def forget(self, number: int, failure: Failure | None) -> None:
        """A call is over; what the peer may still send for it is thrown away."""
        with self._lock:
            call = self._calls.pop(number, None)
            self._commands.pop(number, None)
        if call is not None:
            call.ended(failure)

    def _run(self) -> None:
        failure = Failure(Reason.BROKEN, "this store has failed")
        try:
            self._pump(self._side.open(self))
        except WireFailure as error:
            failure = error.failure
        except BadFrame as error:
            failure = Failure(Reason.FRAME, str(error))
        finally:
            self._finish(failure)

    def _finish(self, failure: Failure) -> None:
        if self._closing:
            failure = Failure(Reason.CLOSED, "this store closed the connection")
        with self._lock:
            self._ended = True
            self._commands.clear()
            wire, self._wire = self._wire, None
            calls = list(self._calls)
        if wire is not None:
            wire.close()
        for number in calls:
            self.forget(number, failure)
        self._on_end(self)

    def _pump(self, wire: Wire) -> None:
        self._heard = self._used = time.monotonic()
        self._frames = Run(self.traffic.meter, self.peer)
        while not self._closing:
            command = self._take()
            if command is not None:
                command()
            patience_s = 0.0 if self._commands else self._patience()
            if patience_s is not None and patience_s < 0.0:
                return  # it has been idle for long enough
            if wire.wait(patience_s):
                self._read(wire)

    def _patience(self) -> float | None:
        """How long to wait for something to happen; negative: for nothing, it is idle. Ends calls that are overdue."""
        now = time.monotonic()
        with self._lock:
            waiting = [(call.deadline, number) for number, call in self._calls.items() if call.deadline is not None]
        for deadline, number in waiting:
            if deadline <= now and (call := self._calls.get(number)) is not None:
                call.overdue()
        times = [deadline for deadline, _ in waiting if deadline > now]
        if self.unanswered:
            times.append(self._heard + self._stall_s)
            if times[-1] <= now:
                raise WireFailure(Reason.STALLED, f"the peer has not answered for {self._stall_s:.0f} s")
        if self._calls:
            self._used = now
        elif self._idle_s is not None:
            if self._used + self._idle_s <= now:
                return self._retire()
            times.append(self._used + self._idle_s)
        return min(times) - now if times else None

    def _retire(self) -> float:
        """Idle, so it ends, unless a call has begun just now."""
        with self._lock:
            if self._calls:
                return 0.0
            self._closing = True
        return -1.0

    def _read(self, wire: Wire) -> None:
        frame = read(wire)
        self._heard = time.monotonic()
        match frame:
            case Offer(number) | Want(number):
                self._welcome_call(frame, number)
            case Hello() | Welcome() | Declined():
                raise BadFrame("a greeting in the middle of a connection")
            case _ if frame.call in self._calls:
                self._calls[frame.call].handle(frame)
            case _ if not 0 < frame.call <= self._highest:
                raise BadFrame(f"there is no call {frame.call}")
            case Slices():
                with self.flowing(frame):
                    self._throw_away(frame.bulk_bytes)

    def _welcome_call(self, frame: Offer | Want, number: int) -> None:
        if number <= self._highest or len(self._calls) >= CALLS:
            raise BadFrame(f"call {number} can't begin")
        with self._lock:
            self._highest = number
        call = self._side.called(self, frame)
        with self._lock:
            self._calls[number] = call

    def _throw_away(self, count: int) -> None:
        scratch = memoryview(bytearray(min(count, 1 << 20)))
        while count:
            self.receive([scratch[:count]])
            count -= min(count, len(scratch))

    def _put(self, call: int, command: Command) -> None:
        self._commands.setdefault(call, deque()).append(command)
        if self._wire is not None:
            self._wire.wake()

    def _take(self) -> Command | None:
        """The next command of the call whose turn it is, which then goes to the end of the queue."""
        with self._lock:
            for call, commands in self._commands.items():
                command = commands.popleft()
                del self._commands[call]
                if commands:
                    self._commands[call] = commands
                return command
        return None


def read(wire: Wire) -> Frame:
    """The next frame, without the bytes of slots behind it. Raises WireFailure, BadFrame."""
    head = bytearray(HEADER_BYTES)
    wire.receive([memoryview(head)])
    header = decode_header(bytes(head))
    body = bytearray(header.body_bytes)
    if body:
        wire.receive([memoryview(body)])
    return decode_body(header, bytes(body))


def decline(wire: Wire, sentence: str) -> None:
    """Tell the peer why it is not welcome, if it still listens."""
    with suppress(WireFailure):
        wire.send([encode(Declined(sentence))])
