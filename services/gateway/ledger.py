"""What workers are to count of this gateway's requests, told to each every fifth of a second.

vLLM's names are exported by workers only, where its boards and autoscalers look for them; but only the gateway knows
when a client got its tokens, how many, and how often a request was placed. So each sequence's first token is told to
the worker that gave it, its end to the one that gave its last. Nothing is sent twice: what a worker that is gone does
not hear is lost, like the counters that it had.
"""

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import Counter

from services.gateway.generation import Account
from services.wire.codec import lifted_to_wire
from services.wire.errors import PeerError
from services.wire.pb import worker_pb2

EVERY_S = 0.2
"""Well within a scrape's interval; a message carries hundreds of tokens under load."""

Send = Callable[[str, worker_pb2.AccountRequest], Awaitable[None]]
"""To the worker at this address; raises PeerError."""


class Ledger:
    """Filled by the choices of every request; one owner runs it. lost: counts messages that did not arrive."""

    def __init__(self, send: Send, lost: Counter) -> None:
        self._send = send
        self._lost = lost
        self._pages: dict[str, worker_pb2.AccountRequest] = {}

    def began(self, account: Account, *, ttft_s: float, prompt_tokens: int) -> None:
        """A sequence has its first token."""
        if (page := self._page(account)) is not None:
            page.begun.add(
                ttft_s=ttft_s,
                prompt_tokens=prompt_tokens,
                cached_tokens=account.cached_tokens or 0,
                lifted=lifted_to_wire(account.lifted),
            )

    def gave(self, account: Account, tokens: int, *, after_s: float | None) -> None:
        """Some tokens of a stream, so long after those before; None: the first."""
        if (page := self._page(account)) is not None:
            page.generation_tokens += tokens
            if after_s is not None:
                page.inter_token_s.append(after_s)

    def ended(self, account: Account, ended: worker_pb2.Ended) -> None:
        """A sequence has ended; its queue and prefill are the account's."""
        if (page := self._page(account)) is not None:
            ended.queue_s, ended.prefill_s = account.queue_s or 0.0, account.prefill_s or 0.0
            ended.cached_tokens = account.cached_tokens or 0
            page.ended.append(ended)

    def asked(self, account: Account, *, n: int, generation_tokens: int) -> None:
        """All choices of one prompt are complete."""
        if (page := self._page(account)) is not None:
            page.asked.add(n=n, generation_tokens=generation_tokens)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.deliver()

    async def deliver(self) -> None:
        """Tell every worker what there is for it; returns when each has heard it, or can't."""
        pages, self._pages = self._pages, {}
        await asyncio.gather(*(self._deliver(address, page) for address, page in pages.items()))

    async def _deliver(self, address: str, page: worker_pb2.AccountRequest) -> None:
        try:
            await self._send(address, page)
        except PeerError:
            self._lost.inc()

    def _page(self, account: Account) -> worker_pb2.AccountRequest | None:
        """Of the worker that counts it; None of what no worker ever had: vLLM's engine counts no such thing either."""
        if account.counted_at is None:
            return None
        return self._pages.setdefault(account.counted_at, worker_pb2.AccountRequest())
