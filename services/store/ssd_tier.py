"""The SSD tier's shell: opens the file, has the catalog's moves carried out, gives up when the disk does.

The catalog decides what is written and read; ``SsdMoves`` does it. The first error of the disk switches the tier off;
the service goes on from memory. Once nothing of it is under way any more the file is opened anew, after a pause that
doubles: a file that was removed or cut is made again, and what is still in it and intact is found by its headers.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kvstore.arena import Arena
from kvstore.catalog import Catalog
from kvstore.layout import Identity, KvLayout
from kvstore.ssd import SUFFIX, SsdError, SsdFile
from kvstore.ssd_scan import Scan
from kvstore.vocabulary import Answer, Demote, Promote
from services.runtime.garbage import collector_paused, leave_alone
from services.runtime.logs import fields
from services.runtime.repeated import Repeated
from services.store.busy import Busy
from services.store.ssd_moves import Moved, SsdMove, SsdMoves

REOPEN_S = 5.0
"""After the tier was switched off; each further time twice as long."""

LONGEST_REOPEN_S = 300.0

log = logging.getLogger(__name__)

OpenFile = Callable[[Path, int, bytes, KvLayout], SsdFile]


class SsdState(StrEnum):
    """What status pages and metrics call it."""

    OPENING = "opening"
    """Until the first worker has told its layout, and the file was searched."""
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class SsdOptions:
    """Where the file is, and how large it may get."""

    path: Path
    size_bytes: int

    @classmethod
    def of(cls, data_dir: Path, store: str, size_bytes: int) -> "SsdOptions | None":
        """Of this store; None where it is given no SSD."""
        return cls(data_dir / "ssd" / f"{store}{SUFFIX}", size_bytes) if size_bytes else None


@dataclass(slots=True)
class Traffic:
    """What went one way: blocks whole and intact, and the time of their requests, added up."""

    blocks: int = 0
    seconds: float = 0.0


class SsdTier:
    """``state`` is what it is now, ``reason`` why it is off. settle: has answers told and new moves begun."""

    def __init__(
        self,
        catalog: Catalog,
        arena: Arena,
        options: SsdOptions,
        *,
        settle: Callable[[Iterable[Answer]], None],
        clock: Callable[[], float],
        open_file: OpenFile | None = None,
        reopen_s: float = REOPEN_S,
    ) -> None:
        self.options = options
        self.state = SsdState.OPENING
        self.reason = ""
        self.scan: Scan | None = None
        self.reading = Busy()
        self.written = Traffic()
        self.read = Traffic()
        self._catalog = catalog
        self._arena = arena
        self._settle = settle
        self._clock = clock
        self._open_file = open_file or _open_file
        self._reopen_s = reopen_s
        self._torn = Repeated(log, "a block is not intact")
        self._file: SsdFile | None = None
        self._adopted: asyncio.Future[tuple[Identity, KvLayout]] = asyncio.get_running_loop().create_future()
        self._opened = asyncio.Event()
        self._progress = asyncio.Event()
        self._opener = ThreadPoolExecutor(1, thread_name_prefix="ssd-open")
        self._moves: SsdMoves | None = None

    @property
    def slot_bytes(self) -> int:
        """What one block takes on the disk, its header included; 0 until there is a layout."""
        return 0 if self._file is None else self._file.stride

    @property
    def pending(self) -> int:
        """Blocks that are still to be written, as far as there is a disk to write them to."""
        disk = self._catalog.snapshot().disk
        return 0 if disk is None else disk.pending

    def now(self) -> float:
        """On the clock that the catalog is told."""
        return self._clock()

    def adopt(self, identity: Identity, layout: KvLayout) -> None:
        """The catalog has adopted this deployment: ``run`` opens its file."""
        if not self._adopted.done():  # cancelled by a store that is stopping while its first peer greets it
            self._adopted.set_result((identity, layout))

    async def opened(self, within_s: float) -> None:
        """Returns once the file was searched or the tier is off, and at the latest after ``within_s``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._opened.wait()

    async def searched(self) -> None:
        """Returns once the file was searched or the tier is off, if there is a file to search yet."""
        if self._adopted.done():
            await self._opened.wait()

    async def run(self) -> None:
        """Open the file once there is a layout, complete moves, open it anew once it was lost, until cancelled."""
        pause_s = self._reopen_s
        try:
            identity, layout = await self._adopted
            while True:
                with collector_paused():
                    await self._open(identity, layout)
                self._opened.set()
                opened_s = self._clock()
                await self._complete_moves()
                await self._let_go()
                if self._clock() - opened_s > LONGEST_REOPEN_S:
                    pause_s = self._reopen_s
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_REOPEN_S)
                self._opened.clear()
        finally:
            self._opened.set()

    async def _complete_moves(self) -> None:
        """Returns once the tier is off and nothing of it is under way."""
        moves, file = self._moves, self._file
        if moves is None or file is None:
            return
        while self.state is SsdState.ON or moves.under_way:
            answers: list[Answer] = []
            for move, result in (ended := await moves.ended()):
                answers += self._completed(move, result)
            if not ended and (failure := await asyncio.to_thread(_trouble, file)) is not None:
                answers += self._switch_off(failure)
            if moves.hangs:
                answers += self._switch_off("the disk does not answer")
            self._settle(answers)
            self._progress.set()

    async def _let_go(self) -> None:
        """Of a file that is not used any more."""
        if self._moves is not None:
            await asyncio.to_thread(self._moves.close)
            self._moves = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def carry_out(self, move: SsdMove) -> None:
        """Begin it; ``run`` tells the catalog when it is over."""
        assert self._moves is not None, "there are no moves before the file is open"
        self._moves.begin(move)

    @property
    def _moving(self) -> bool:
        return self._moves is not None and self._moves.under_way > 0

    async def written_behind(self, within_s: float) -> bool:
        """Wait until nothing is left to be written; False where that takes longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.state is SsdState.ON and (self._moving or self.pending):
                    await self._more_progress()
        return not self.pending

    async def at_rest(self) -> None:
        """Wait for the moves under way, unless the tier is off; to be called while no more are begun."""
        while self._moving and self.state is SsdState.ON:
            await self._more_progress()

    async def reset(self) -> None:
        """Empty the file; at rest only."""
        if self._file is not None and self.state is SsdState.ON:
            try:
                await asyncio.to_thread(self._file.reset)
            except OSError as failure:
                self._settle(self._switch_off(_words(failure)))

    async def save_index(self) -> None:
        """For a quick start next time; at rest only, with ``close`` to follow."""
        if self._file is not None and self.state is SsdState.ON:
            entries = self._catalog.disk_entries()
            try:
                await asyncio.to_thread(self._file.save_snapshot, entries)
            except OSError as failure:
                log.warning("no index for the next start", extra=fields(path=self.options.path, reason=_words(failure)))
            else:
                log.info("index saved", extra=fields(blocks=len(entries)))

    def close(self) -> None:
        """Waits for the requests that the disk has; nothing else of it is used afterwards."""
        self._opener.shutdown()
        if self._moves is not None:
            self._moves.close()
        if self._file is not None:
            self._file.close()

    async def _more_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    # Opening

    async def _open(self, identity: Identity, layout: KvLayout) -> None:
        try:
            scan = await asyncio.wrap_future(self._opener.submit(self._open_and_scan, identity, layout))
        except (SsdError, OSError) as failure:
            self._settle(self._switch_off(_words(failure)))
            return
        file = self._file
        assert file is not None
        if file.begun_anew is not None:
            log.warning("the SSD file is begun anew", extra=fields(path=file.path, reason=file.begun_anew))
        if not file.direct:
            log.warning("no direct I/O here: the SSD file goes through the page cache", extra=fields(path=file.path))
        self._moves = SsdMoves(file, self._arena, layout, reading=self.reading, clock=self._clock)
        for _ in self._catalog.attaching_disk(file.slots, scan.entries):
            await asyncio.sleep(0)  # whoever asks meanwhile is served from memory
        leave_alone(len(scan.entries))
        self.scan, self.state, self.reason = scan, SsdState.ON, ""
        log.info(
            "ssd on",
            extra=fields(
                path=file.path,
                slots=file.slots,
                blocks=len(scan.entries),
                torn=scan.torn,
                scan_s=round(scan.seconds, 3),
                by="index" if scan.from_snapshot else "headers",
            ),
        )
        self._settle(())

    def _open_and_scan(self, identity: Identity, layout: KvLayout) -> Scan:
        """In a thread. The file is ours from its opening on, whatever becomes of whoever waits for this."""
        options = self.options
        self._file = self._open_file(options.path, options.size_bytes, identity.fingerprint, layout)
        return self._file.scan()

    # Moved

    def _completed(self, move: SsdMove, result: Moved | Exception) -> list[Answer]:
        """Raises what is no error of the disk: a bug."""
        answers: list[Answer] = []
        if isinstance(result, OSError):
            answers += self._switch_off(_words(result))
            result = (False, 0.0)
        elif isinstance(result, Exception):
            raise result
        intact, seconds = result
        now = self._clock()
        match move:
            case Demote():
                self._count(self.written, intact, seconds)
                self._catalog.demoted(move, done=intact, now=now)
            case Promote():
                self._count(self.read, intact, seconds)
                if not intact and self.state is SsdState.ON:
                    self._torn.say(block=move.name, slot=move.source.slot)
                answers += self._catalog.promoted(move, done=intact, now=now)
        return answers

    @staticmethod
    def _count(traffic: Traffic, intact: bool, seconds: float) -> None:
        traffic.blocks += intact
        traffic.seconds += seconds

    def _switch_off(self, reason: str) -> list[Answer]:
        """Until the file is opened anew: a disk that fails once is not trusted with the next block. Each reason is said
        once."""
        if self.state is SsdState.OFF and self.reason == reason:
            return []
        was_on = self.state is SsdState.ON
        self.state, self.reason = SsdState.OFF, reason
        log.error("ssd off", extra=fields(path=self.options.path, reason=reason))
        return self._catalog.detach_disk(now=self._clock()) if was_on else []


def _open_file(path: Path, size_bytes: int, fingerprint: bytes, layout: KvLayout) -> SsdFile:
    return SsdFile.open(path, size_bytes, fingerprint=fingerprint, layout=layout)


def _trouble(file: SsdFile) -> str | None:
    """What has become of the file, if anything; in a thread, as a disk may hang."""
    try:
        file.check_there()
    except OSError as failure:
        return _words(failure)
    return None


def _words(failure: Exception) -> str:
    return (failure.strerror if isinstance(failure, OSError) else None) or str(failure)
