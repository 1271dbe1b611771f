"""Why nobody can take a request: the condition that the workers failed, the last one that would have to be lifted."""

from scheduler.beliefs import Beliefs
from scheduler.vocabulary import Ask, Rejection, RejectionCode

RETRY_AFTER_S = 1.0
"""A worker that restarts reports within seconds; clients back off on their own from there."""


def nobody(beliefs: Beliefs, ask: Ask, *, now: float) -> Rejection:
    live = [worker for worker in beliefs.workers.values() if beliefs.alive(worker.heard_s, now)]
    serving = [worker for worker in live if not worker.report.draining]
    roomy = [worker for worker in serving if ask.tokens < worker.report.max_model_len]
    code = RejectionCode.UNAVAILABLE
    if not live:
        reason = "no worker is alive"
    elif not serving:
        reason = "every worker is shutting down"
    elif not roomy:
        longest = max(worker.report.max_model_len for worker in serving)
        reason = f"this request has {ask.tokens} tokens, and no worker takes more than {longest - 1}"
    else:
        reason = "every worker that could take this request has refused it or failed at it"
        rows = beliefs.worker_table.rows[[beliefs.worker_table.row(worker.report.worker) for worker in roomy]]
        if ((rows["sequences"] >= rows["seats"]) | (rows["blocks_free"] < beliefs.blocks(ask))).any():
            code, reason = RejectionCode.OVERLOADED, "no worker has room for this request now"
    return Rejection(ask.request, code, reason, RETRY_AFTER_S)
