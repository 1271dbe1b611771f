"""What all requests of one gateway share, made by hand in main.py and in tests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.gateway.cluster import ClusterClient
from services.gateway.errors import ApiError, bad_request, busy, no_such_model, unavailable
from services.gateway.lag import Lag
from services.gateway.ledger import Ledger
from services.gateway.metrics import Metrics
from services.gateway.order import Deployment
from services.gateway.parameters.unknown import UnknownFields
from services.gateway.patience import Patience
from services.gateway.roll import Gone, Roll
from services.gateway.text import Text
from services.gateway.text_threads import Pieces, TextThreads
from services.wire.cluster_codec import Cluster
from services.wire.errors import PeerUnavailable

FULL_RETRY_S = 1.0
REFRESH_S = 1.0
"""How often the cluster is asked who it is: a new identity names other roots."""

LAST_WORDS_S = 1.0
"""How long a request that has been ended may take to say so."""

LEAST_BODY_BYTES = 4 << 20
"""For what a body may hold besides a prompt: 128 prompts of 8,000 characters, escaped, or MOST_VALUES ids (2 MB)."""

BODY_BYTES_PER_TOKEN = 64
"""English has 4 to 5 bytes a token, ids up to 8, and what Python's json escapes 9 (Chinese) to 18 (Cyrillic), all of
which fit three times over. A context of 8,192 tokens: 4.5 MiB; of 131,072: 12 MiB."""

UNKNOWN_CONTEXT = 1 << 17
"""Until a worker has told the context."""

MOST_WAITING_BYTES = 256 << 20
"""Of bodies that wait for a thread: a few minutes' work for two threads at 1 MB/s."""

STOPPING = "This gateway is shutting down."
NOBODY = "No worker is ready: each joins when it has loaded its model."

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """What a front is told; the meaning of each is in settings.py."""

    id: str = "gateway-0"
    pid: int = 0
    model: str = "toy"
    max_model_len: int | None = None
    max_concurrent_requests: int = 512
    max_body_bytes: int | None = None
    body_timeout_s: float = 30.0
    text_threads: int = 2
    patience: Patience = field(default_factory=Patience)
    dev_endpoints: bool = False


class Front:
    """The shared state of a gateway. draining: it takes no new requests. ended: what still runs is to end now."""

    def __init__(self, settings: FrontSettings, text: Text, cluster: ClusterClient) -> None:
        self.settings = settings
        self.text = text
        self.cluster = cluster
        self.metrics = Metrics()
        self.ledger = Ledger(lambda address, told: self.cluster.account(address, told), self.metrics.accounts_lost)
        self.metrics.watch(lambda: self.cluster.known)
        self.unknown_fields = UnknownFields()
        self.roll = Roll()
        self._clock = asyncio.get_running_loop().time
        self.told = 0
        self.lag = Lag()
        self.draining = False
        self.ended = False
        self._deployment: Deployment | None = None
        self.texts = TextThreads(
            settings.text_threads,
            most_waiting=settings.max_concurrent_requests,
            most_bytes=MOST_WAITING_BYTES,
        )
        self._present = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def gone(self) -> list[Gone]:
        """Who was there and is not any more."""
        return self.roll.gone(now=self._clock())

    @property
    def longest(self) -> int | None:
        """Tokens of prompt and output together, as far as known yet."""
        known = self._deployment.longest if self._deployment else None
        return known or self.settings.max_model_len or self.text.context

    async def deployment(self) -> Deployment:
        """What the cluster serves now, or served last; ApiError where nobody ever said."""
        if self._deployment is None:
            await self.refresh()
        if self._deployment is None:
            raise unavailable(NOBODY)
        return self._deployment

    async def refresh(self) -> None:
        """Ask who the cluster is; raises ApiError where no conductor answers."""
        try:
            self.learn(await self.cluster.describe())
        except PeerUnavailable as error:
            raise unavailable(f"{error}.") from error

    def learn(self, cluster: Cluster) -> None:
        """Once nobody lives the last deployment is kept: who comes back is probably of the same."""
        self.roll.call(cluster, now=self._clock())
        if cluster.identity is None or not cluster.workers:
            return
        longest = min(worker.max_model_len for worker in cluster.workers)
        if self.settings.max_model_len is not None:
            longest = min(longest, self.settings.max_model_len)
        self._deployment = Deployment(cluster.identity, longest)

    async def keep_fresh(self) -> None:
        """Refresh until cancelled."""
        while True:
            with suppress(ApiError):
                await self.refresh()
            await asyncio.sleep(REFRESH_S)

    def check_model(self, name: str | None) -> None:
        if name and name != self.settings.model:  # as in vLLM, an empty one is none
            raise no_such_model(name)

    @property
    def most_body_bytes(self) -> int:
        """The longest body, by the context unless it was set."""
        context = self.longest or UNKNOWN_CONTEXT
        return self.settings.max_body_bytes or LEAST_BODY_BYTES + BODY_BYTES_PER_TOKEN * context

    async def in_thread(self, pieces: Pieces[ResultT], *, size: int, client: str) -> ResultT:
        """Text work, beside the event loop and in turn with other requests'. size: bytes of the text it is about.

        Raises ApiError where too much waits, or this has waited for too long.
        """
        try:
            async with asyncio.timeout(self.settings.patience.first_token_s):
                return await self.texts.run(pieces, size=size, client=client)
        except TimeoutError:
            raise unavailable("There was no time left to read the request.", code="deadline_exceeded") from None

    @contextmanager
    def seats(self, count: int) -> Iterator[None]:
        """Room for that many sequences as long as the block lasts; ApiError where there is none, or never will be."""
        most = self.settings.max_concurrent_requests
        if count > most:
            raise bad_request(f"The request is for {count} answers, and this gateway gives {most} at a time.")
        if self.told + count > most:
            told, wanted = f"{self.told} of at most {most} answers", "" if count == 1 else f"; this is for {count} more"
            raise busy(f"This gateway is full: it is giving {told}{wanted}.", retry_after_s=FULL_RETRY_S)
        self.told += count
        try:
            yield
        finally:
            self.told -= count

    @contextmanager
    def present(self) -> Iterator[None]:
        """A request is being served, its accounting included; whoever waits for ``idle`` waits for it."""
        self._present += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._present -= 1
            if not self._present:
                self._idle.set()

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """The running task is cancelled when the gateway must end; ApiError where it takes nothing new."""
        if self.draining:
            raise unavailable(STOPPING, code="shutting_down")
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def idle(self) -> None:
        """Returns once no request is being served."""
        await self._idle.wait()

    async def drain(self, within_s: float) -> None:
        """Take nothing new, let what runs end by itself for so long, then end it with an error."""
        self.draining = True
        try:
            async with asyncio.timeout(within_s):
                await self.idle()
        except TimeoutError:
            self.ended = True
            for task in list(self._tasks):
                task.cancel()
            with suppress(TimeoutError):  # of a client that does not read, there is no more to wait for
                async with asyncio.timeout(LAST_WORDS_S):
                    await self.idle()

    async def close(self) -> None:
        await self.ledger.deliver()
        await self.cluster.close()
        self.texts.close()
