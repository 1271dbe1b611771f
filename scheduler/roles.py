"""Whether a worker should change its role: when one pool is short for a while and the other has plenty.

A change pays back slowly and hurts at once, so three things stand before it: two thresholds with a wide gap (a pool
is short above one, and may give below the other), a time for which that must have held without a break, and a
cool-down after each change, whichever conductor told it. The giving pool keeps a worker, and must not be short itself
afterwards. A pool that has lost all its workers is short, too.
"""

from dataclasses import dataclass, field
from math import inf

from scheduler import estimate
from scheduler.beliefs import Beliefs, WorkerBelief
from scheduler.vocabulary import Promise, Role, WorkerId

SHORT = 0.8
"""Load from which a pool is short: a fifth of what was promised is left."""

PLENTY = 0.4
"""Load up to which a pool may give a worker."""

SUSTAINED_S = 10.0
"""How long that must have held: bursts are shorter."""

COOL_DOWN_S = 60.0
"""Between two changes: the batches of the pools must have settled before loads mean anything again."""

UNPROMISED_TTFT_S = 2.0
"""What prefill queues are measured by where no TTFT is promised."""


@dataclass(frozen=True, slots=True)
class Pools:
    """Mean load of each pool, and its workers. Mixed workers are of none."""

    prefill: float
    decode: float
    prefill_workers: int
    decode_workers: int


@dataclass(slots=True)
class Balance:
    """Told of the loads now and then; ``wanted`` says which role is short."""

    short: Role | None = None
    since_s: float = 0.0
    changed_s: float | None = None

    def rests(self, *, now: float) -> None:
        """Somebody has changed, whoever told it to."""
        self.changed_s = self.since_s = now

    def wanted(self, pools: Pools, *, now: float) -> Role | None:
        """The role that one worker of the other pool should take now; whoever asks sees to it."""
        short = _short(pools)
        if short is not self.short:
            self.short, self.since_s = short, now
        if short is None or now - self.since_s < SUSTAINED_S:
            return None
        if self.changed_s is not None and now - self.changed_s < COOL_DOWN_S:
            return None
        self.rests(now=now)
        return short


def _short(pools: Pools) -> Role | None:
    if _may_give(pools.decode, pools.decode_workers) and pools.prefill >= SHORT:
        return Role.PREFILL
    if _may_give(pools.prefill, pools.prefill_workers) and pools.decode >= SHORT:
        return Role.DECODE
    return None


def _may_give(load: float, workers: int) -> bool:
    """Still without plenty to do when one of them has left."""
    return workers >= 2 and load <= PLENTY and load * workers / (workers - 1) < SHORT


@dataclass(slots=True)
class Roles:
    """Which workers are told to change, until they have. changes: since the beginning.

    advices: how often one was to change, told to or not; why: the last one.
    """

    changes: int = 0
    advices: int = 0
    why: str = ""
    _balance: Balance = field(default_factory=Balance)
    _known: dict[WorkerId, tuple[int, Role]] = field(default_factory=dict)
    """Incarnation and role of who serves, as of the last look."""
    _had: set[Role] = field(default_factory=set)
    """Roles that somebody has had."""
    _directives: dict[WorkerId, tuple[Role, float]] = field(default_factory=dict)

    def look(self, beliefs: Beliefs, promise: Promise, *, dry: bool = False, now: float) -> None:
        """Tell the least busy worker of the pool that has plenty to change, if the other one is short.

        dry: only say that it should.
        """
        serving = [it for it in beliefs.workers.values() if beliefs.alive(it.heard_s, now) and not it.report.draining]
        if self._somebody_changed(serving):
            self._balance.rests(now=now)
        prefill, decode = ([it for it in serving if it.report.role is role] for role in (Role.PREFILL, Role.DECODE))
        loads = [_load([_prefill_load(it, beliefs, promise) for it in prefill], bereft=self._bereft(Role.PREFILL))]
        loads.append(_load([_decode_load(it, promise) for it in decode], bereft=self._bereft(Role.DECODE)))
        wanted = self._balance.wanted(Pools(loads[0], loads[1], len(prefill), len(decode)), now=now)
        if wanted is None:
            return
        giving = decode if wanted is Role.PREFILL else prefill
        # By reports alone, which other conductors hear, too, so that they tell the same one.
        least = min(giving, key=lambda it: (it.report.running + it.report.waiting, it.report.worker))
        self.advices += 1
        self.why = (
            f"{least.report.worker} becomes a {wanted} worker: for {SUSTAINED_S:.0f} s the load of the prefill pool"
            f" has been {loads[0]:.2f} ({len(prefill)} workers), that of the decode pool {loads[1]:.2f} ({len(decode)})"
        )
        if not dry:
            self._directives[least.report.worker] = (wanted, now + COOL_DOWN_S / 2)
            self.changes += 1

    def _somebody_changed(self, serving: list[WorkerBelief]) -> bool:
        """Since the last look; another conductor may have told it to."""
        before = self._known
        self._known = {it.report.worker: (it.report.incarnation, it.report.role) for it in serving}
        self._had.update(it.report.role for it in serving)
        return any(
            worker in before and before[worker][0] == incarnation and before[worker][1] is not role
            for worker, (incarnation, role) in self._known.items()
        )

    def _bereft(self, role: Role) -> bool:
        """Nobody is left who could do this, though somebody could."""
        return role in self._had and not {role, Role.MIXED} & {of for _, of in self._known.values()}

    def directive(self, worker: WorkerId, beliefs: Beliefs, *, now: float) -> Role | None:
        """None: it keeps its role, or has taken the other one."""
        role, until_s = self._directives.get(worker, (None, now))
        belief = beliefs.workers.get(worker)
        if belief is None or role is None or belief.report.role is role or until_s <= now:
            self._directives.pop(worker, None)
            return None
        return role


def _load(loads: list[float], *, bereft: bool) -> float:
    """The mean; of a pool without anybody nothing is asked, unless it has lost everybody."""
    if loads:
        return sum(loads) / len(loads)
    return inf if bereft else 0.0


def _now(worker: WorkerBelief, beliefs: Beliefs, column: str) -> float:
    return float(beliefs.worker_table.rows[column][beliefs.worker_table.row(worker.report.worker)])


def _prefill_load(worker: WorkerBelief, beliefs: Beliefs, promise: Promise) -> float:
    """The wait in its queue over what is promised."""
    return _now(worker, beliefs, "queue_s") / (promise.ttft_s if promise.ttft_s < inf else UNPROMISED_TTFT_S)


def _decode_load(worker: WorkerBelief, promise: Promise) -> float:
    """The most of: its TPOT over what is promised, the share of its seats, and of its blocks, that is taken.

    By its report alone: who is placed there and still prefills is booked, too, and the shorter the prefill pool is, the
    more of those there are. With them a decode pool that idles looked full, and no worker ever left it (measured).
    """
    report, sequences = worker.report, worker.report.running + worker.report.waiting
    tpot_s = estimate.step_s(report.profile, sequences, report.kv_tokens) if sequences else 0.0
    blocks = 1.0 - report.device_blocks_free / max(1, report.device_blocks_total)
    return max(tpot_s / promise.tpot_s, sequences / max(1, report.max_num_seqs), blocks)
