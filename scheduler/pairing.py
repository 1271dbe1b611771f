"""Choose who prefills and who decodes, together: what a push costs depends on both.

Every worker is weighed by itself first; then the best few of each kind, the best partner of each on its own
host, and the best that other hosts can reach are weighed in pairs. With few workers that is all pairs.
"""

from dataclasses import dataclass

import numpy as np

from scheduler.forecast import Forecast
from scheduler.policies.policy import Policy
from scheduler.table import NOBODY, Bools, Floats, Ints
from scheduler.vocabulary import Decision

SHORT = 8
"""Workers of each kind that are weighed in pairs, besides those of the same hosts."""

NO_ROOM_S = 1e6
"""Added to the cost of a worker without a free seat or blocks: the last choice."""

BROKEN_S = 1e5
"""Added for each promise that would not be kept: whoever keeps them comes first."""

TIE_SEQUENCES_S = 1e-6
TIE_RANK_S = 1e-9
"""Ties go to fewer sequences, then to the id: added to costs, since one sum is quicker than a sort by three keys.
Beside a million seconds a double still tells 1e-10 s apart."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for this request and this deployment.

    inline_max_tokens: see Conductor. outputs: tokens it is expected to generate. handoff_s, push_s: what a handoff
    takes besides lifting, and between hosts besides bytes. idle_s, busy_s: the longest step with an inline prefill in
    it. ttft_s, tpot_s: what is promised.
    """

    tokens: int
    block_tokens: int
    outputs: int
    inline_max_tokens: int | None
    handoff_s: float
    push_s: float
    idle_s: float
    busy_s: float
    ttft_s: float
    tpot_s: float

    @property
    def insisted(self) -> bool:
        """Whatever can be handed over is."""
        return self.inline_max_tokens == 0


@dataclass(frozen=True, slots=True)
class Pair:
    """Rows of the workers' table; prefill NOBODY: inline. push_s: what a push leaves to do after the first token."""

    prefill: int
    decode: int
    decision: Decision
    push_s: float = 0.0

    @property
    def computes(self) -> int:
        """The row of whoever prefills."""
        return self.decode if self.prefill == NOBODY else self.prefill


def choose(at: Forecast, policy: Policy, terms: Terms, *, tpot_s: Floats) -> Pair | None:
    """None where nobody could decode it. tpot_s: by which promises are judged, if not by the forecast's."""
    if not at.decoder.any():
        return None
    tie = TIE_SEQUENCES_S * at.sequences + TIE_RANK_S * at.ranks
    late = BROKEN_S * (at.ttft_s > terms.ttft_s)
    rank = policy.rank(at) + late + tie
    decode_s = terms.outputs * at.tpot_s + NO_ROOM_S * ~at.room + BROKEN_S * (tpot_s > terms.tpot_s) + tie
    prefillers, decoders = _partnered(at, terms)
    if not prefillers.any():
        inline = (rank + decode_s) if policy.by_time else rank + NO_ROOM_S * ~at.room
        degraded = at.degraded or not at.prefiller.any()
        decision = Decision.DEGRADED if degraded else Decision.INLINE_ALONE
        return Pair(NOBODY, _least(inline, at.decoder), decision)
    after_s = decode_s + terms.handoff_s + at.lift_s
    if not policy.by_time:
        first = np.zeros_like(prefillers)
        first[_least(rank, prefillers)] = True
        prefillers = first
    pair, cost_s = _best_pair(at, rank, after_s, prefillers, decoders, terms)
    able = _may_inline(at, terms)
    if not policy.by_time:
        only = np.zeros_like(able)
        only[pair.decode] = able[pair.decode]
        able = only
    if able.any():
        # By the time that each would take: what ranks count besides is not told of a prefill in another's batch.
        cost_s += float(at.ttft_s[pair.prefill] + late[pair.prefill] + tie[pair.prefill] - rank[pair.prefill])
        inline_s = at.ttft_s + late + decode_s
        row = _least(inline_s, able)
        if inline_s[row] <= cost_s:
            return Pair(NOBODY, row, Decision.INLINE_SOONER)
    return pair


def _partnered(at: Forecast, terms: Terms) -> tuple[Bools, Bools]:
    """Who could prefill for another, and who could be handed over to; none where everything is to be inline.

    Mixed workers share work by where it is placed, and hand over to each other only where that is insisted on.
    """
    prefillers, decoders = at.prefiller & at.linked, at.decoder & at.linked
    wanted = prefillers & (at.dedicated | terms.insisted)
    if at.degraded or not wanted.any():
        return np.zeros_like(prefillers), decoders
    decoders = decoders & _has_partner(at, decoders, wanted)
    if not decoders.any():
        return np.zeros_like(prefillers), decoders
    return prefillers & _has_partner(at, prefillers, decoders), decoders


def _has_partner(at: Forecast, ours: Bools, theirs: Bools) -> Bools:
    """Which of ours share a store with one of theirs, or both can be reached; oneself is no partner."""
    both = ours & theirs
    on_host = np.bincount(at.store[theirs], minlength=int(at.store.max()) + 2)
    elsewhere = np.count_nonzero(theirs & at.reachable)
    near: Bools = on_host[at.store] > both
    far: Bools = at.reachable & (elsewhere > (both & at.reachable))
    return near | far


def _best_pair(
    at: Forecast, rank: Floats, after_s: Floats, prefillers: Bools, decoders: Bools, terms: Terms
) -> tuple[Pair, float]:
    """And what it costs."""
    ps, ds = _shortest(rank, prefillers), _shortest(after_s, decoders)
    more_ps, more_ds = ps, ds
    if len(ps) < np.count_nonzero(prefillers):  # else all are weighed anyway
        near = [_least(rank, some) for store in set(at.store[ds]) if (some := prefillers & (at.store == store)).any()]
        far = [_least(rank, some)] if (some := prefillers & at.reachable).any() else []
        more_ps = np.unique([*ps, *near, *far])
    if len(ds) < np.count_nonzero(decoders):
        more_ds = np.unique([*ds, *(row for p in ps for row in _partners(at, after_s, decoders, int(p)))])
    ps, ds = more_ps, more_ds

    shared = at.store[ps][:, None] == at.store[ds]
    possible = (shared | (at.reachable[ps][:, None] & at.reachable[ds])) & (ps[:, None] != ds)
    # The links are busy with others' blocks for a while; they may be until the prefill begins.
    backlog_s = np.maximum(at.sends_s[ps][:, None], at.receives_s[ds]) - at.wait_s[ps][:, None]
    link_s = np.maximum(at.send_byte_s[ps][:, None], at.receive_byte_s[ds]) * at.lacked_bytes[ds]
    left_s = np.maximum(backlog_s, 0.0) + link_s - at.work_s[ps][:, None]
    push_s = np.where(shared, 0.0, terms.push_s + np.maximum(left_s, 0.0))
    cost_s = np.where(possible, rank[ps][:, None] + push_s + after_s[ds], np.inf)
    best = int(np.argmin(cost_s))
    p, d = divmod(best, len(ds))
    assert possible[p, d], "whoever is weighed has a partner"
    return Pair(int(ps[p]), int(ds[d]), Decision.HANDED_OVER, float(push_s[p, d])), float(cost_s[p, d])


def _partners(at: Forecast, after_s: Floats, decoders: Bools, p: int) -> list[int]:
    """The best decode worker of p's host, and of those that other hosts reach; not p itself."""
    others = decoders.copy()
    others[p] = False
    near, far = others & (at.store == at.store[p]), others & at.reachable
    return [_least(after_s, some) for some in (near, far) if some.any()]


def _may_inline(at: Forecast, terms: Terms) -> Bools:
    """Who may prefill it in its own batch: within the operator's bound, and without a long gap for other streams."""
    busy = at.sequences > 0
    step_s = at.work_s + np.where(busy, at.tpot_s, 0.0)
    able: Bools = at.decoder & (step_s <= np.where(busy, terms.busy_s, terms.idle_s))
    if terms.inline_max_tokens is not None:
        able &= terms.tokens - at.cached * terms.block_tokens <= terms.inline_max_tokens
    return able


def _shortest(cost_s: Floats, among: Bools) -> Ints:
    rows = np.flatnonzero(among)
    if len(rows) <= SHORT:
        return rows
    return rows[np.argpartition(cost_s[rows], SHORT)[:SHORT]]


def _least(cost_s: Floats, among: Bools) -> int:
    return int(np.argmin(np.where(among, cost_s, np.inf)))
