"""One line of log and one set of figures for each request for an answer, whatever became of it."""

import logging
from collections.abc import Sequence

from scheduler.vocabulary import Decision
from services.gateway.choice import Choice
from services.gateway.errors import ApiError
from services.gateway.ledger import Ledger
from services.gateway.metrics import Metrics
from services.gateway.shape import Usage
from services.runtime.logs import fields

CLIENT_LEFT = 499
"""nginx's status for it; it is only ever counted and logged, as nobody is there to read it."""

log = logging.getLogger("services.gateway.request")


class Journal:
    """Filled in while a request is served; closed once, at its end. request: the client's id of it, or ours."""

    def __init__(self, endpoint: str, request: str, metrics: Metrics, ledger: Ledger, *, arrived: float) -> None:
        self.arrived = arrived
        self.text_s: float | None = None
        self.order: str | None = None
        self.choices: Sequence[Choice] = ()
        self.per_prompt = 1
        self._endpoint = endpoint
        self._request = request
        self._metrics = metrics
        self._ledger = ledger

    @property
    def usage(self) -> Usage:
        """Of the whole answer so far; each prompt counts once, however many choices it has."""
        firsts = self.choices[:: self.per_prompt]
        return Usage(
            prompt_tokens=sum(choice.prompt_tokens for choice in firsts),
            completion_tokens=sum(choice.scribe.count for choice in self.choices),
            cached_tokens=sum(choice.story.account.cached_tokens or 0 for choice in firsts),
        )

    def tokenized(self, now: float) -> None:
        self.text_s = now - self.arrived
        self._metrics.text.observe(self.text_s)

    def close(self, now: float, *, status: int, error: ApiError | None = None) -> None:
        """The end: of a complete answer, of one that failed (error), or of a client that left (499)."""
        for choice in self.choices:
            choice.close(arrived=self.arrived, now=now, reason=_reason(choice, status, error))
        if status != CLIENT_LEFT and error is None:
            self._asked()
        if status == CLIENT_LEFT:
            self._metrics.cancelled.inc()
        self._metrics.requests.labels(self._endpoint, str(status)).inc()
        if error is not None:
            self._metrics.errors.labels(error.code or error.kind).inc()
        level = logging.WARNING if error is not None and error.status >= 500 else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "request", extra=self._fields(now, status, error))

    def _asked(self) -> None:
        """Of a complete answer: each prompt with its choices."""
        for at in range(0, len(self.choices), self.per_prompt):
            choices = self.choices[at : at + self.per_prompt]
            longest = max(choice.scribe.count for choice in choices)
            self._ledger.asked(choices[0].story.account, n=self.per_prompt, generation_tokens=longest)

    def _fields(self, now: float, status: int, error: ApiError | None) -> dict[str, object]:
        usage = self.usage
        first = self.choices[0] if self.choices else None
        account = first.story.account if first else None
        return fields(
            request=self._request,
            id=self.order,
            endpoint=self._endpoint,
            status=status,
            error=str(error) if error else None,
            finish=first.scribe.finish_reason if first else None,
            choices=len(self.choices),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            prefill=account.prefill if account else None,
            decode=account.decode if account else None,
            placements=account.placements if account else None,
            missing_blocks=account.missing_blocks if account and Decision.HANDED_OVER in account.decisions else None,
            text_s=self.text_s,
            placing_s=account.placing_s if account else None,
            queue_s=account.queue_s if account else None,
            prefill_s=account.prefill_s if account else None,
            predicted_ttft_s=account.predicted_ttft_s if account else None,
            ttft_s=first.first_at - self.arrived if first and first.first_at else None,
            decode_s=first.last_at - first.first_at if first and first.first_at and first.last_at else None,
            total_s=now - self.arrived,
        )


def _reason(choice: Choice, status: int, error: ApiError | None) -> str:
    """Why a choice ended: stop, length, abort, error, or refused: what a worker took on, and then none served."""
    if status == CLIENT_LEFT:
        return "abort"
    if error is not None:
        return "refused" if error.status < 500 else "error"
    return "error" if choice.scribe.finish_reason is None else choice.scribe.finish_reason.value
