"""One choice of an answer while it is being told: its story, its text, its times."""

import asyncio
from math import inf

from services.gateway.ledger import Ledger
from services.gateway.metrics import Metrics
from services.gateway.order import Order
from services.gateway.scribe import Scribe
from services.gateway.shape import Told
from services.gateway.story import Story
from services.wire.pb import worker_pb2


class Choice:
    """The state of one sequence's telling. begun: it has its first token; rest: text kept for its last chunk.

    The times are the event loop's; every token's arrival is measured before anything is done with it.
    """

    def __init__(
        self, index: int, order: Order, story: Story, scribe: Scribe, metrics: Metrics, ledger: Ledger
    ) -> None:
        self.told = Told(index)
        self.story = story
        self.scribe = scribe
        self.prompt_tokens = len(order.choices[index].prompt)
        self._max_tokens = order.choices[index].limits.max_tokens
        self.begun = asyncio.Event()
        self.rest = ""
        self.opened = False
        self.first_at: float | None = None
        self.last_at: float | None = None
        self._keeps_tokens = order.telling.return_token_ids
        self._metrics = metrics
        self._ledger = ledger
        metrics.waiting.inc()

    def hear(self, tokens: list[int], *, now: float, arrived: float) -> str:
        """The text that these tokens make certain."""
        account = self.story.account
        after_s = None if self.last_at is None else now - self.last_at
        if self.last_at is None:
            self.first_at = now
            self._ledger.began(account, ttft_s=now - arrived, prompt_tokens=self.prompt_tokens)
            if (predicted_s := account.predicted_ttft_s) is not None:
                self._metrics.predicted_first_token.observe(predicted_s)
            self._metrics.waiting.dec()
            self._metrics.running.inc()
            self.begun.set()
        self.last_at = now
        before = self.scribe.count
        text = self.scribe.write(tokens)
        self._ledger.gave(account, self.scribe.count - before, after_s=after_s)
        if self._keeps_tokens:
            self.told.tokens += tokens[: self.scribe.count - before]
        return text

    @property
    def has_enough(self) -> bool:
        """Whether a stop string ended it, which its worker cannot know."""
        return isinstance(self.scribe.stop_reason, str)

    def close(self, *, arrived: float, now: float, reason: str) -> None:
        """Account for it, however it ended (stop, length, abort, error or refused). Called once."""
        metrics, account = self._metrics, self.story.account
        metrics.placements_of(account)
        if self.first_at is None or self.last_at is None:
            metrics.waiting.dec()
        else:
            metrics.running.dec()
        self._keep_promises(arrived, left=reason == "abort")
        if reason == "refused":
            return  # vLLM's engine never sees such a request
        self._ledger.ended(
            account,
            worker_pb2.Ended(
                reason=reason,
                e2e_s=now - arrived,
                decode_s=(self.last_at or now) - (self.first_at or now),
                prompt_tokens=self.prompt_tokens,
                generation_tokens=self.scribe.count,
                max_tokens=self._max_tokens,
            ),
        )

    def _keep_promises(self, arrived: float, *, left: bool) -> None:
        """What a client did not wait for, nobody can be late with; what failed is missed."""
        promise, metrics = self.story.account.promise, self._metrics
        if self.first_at is None or self.last_at is None:
            if not left:
                metrics.promised("ttft", promise.ttft_s, inf)
            return
        metrics.promised("ttft", promise.ttft_s, self.first_at - arrived)
        if self.scribe.count > 1:
            metrics.promised("tpot", promise.tpot_s, (self.last_at - self.first_at) / (self.scribe.count - 1))
