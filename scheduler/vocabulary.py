"""The nouns of scheduling: what is asked, what is answered, what is reported.

Values only. Times are durations or monotonic seconds of the one who stamps them;
no timestamp of another process ever appears here.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import NewType

from kvstore.digest import Digest
from kvstore.layout import Identity
from kvstore.names import BlockName

RequestId = NewType("RequestId", str)
WorkerId = NewType("WorkerId", str)
StoreId = NewType("StoreId", str)


class Role(StrEnum):
    """What a worker may be asked for."""

    PREFILL = "prefill"
    DECODE = "decode"
    MIXED = "mixed"

    @property
    def prefills(self) -> bool:
        """May prefill for another worker to decode (a handoff's source)."""
        return self is not Role.DECODE

    @property
    def decodes(self) -> bool:
        """May hold a running stream (and prefill inline for it)."""
        return self is not Role.PREFILL


class FinishReason(StrEnum):
    """Why a sequence ended on a worker."""

    STOP = "stop"
    """It sampled one of its stop ids."""
    LENGTH = "length"
    """It reached its token limit or the model's context."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one token is chosen from logits.

    temperature 0 is greedy. top_k 0, top_p 1, min_p 0, repetition_penalty 1 and the other penalties 0 are off.
    The uniform draw for the token at absolute position i is a function of (seed, i) alone, so a resumed
    stream continues as it would have.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    """Divides positive logits, and multiplies negative ones, of tokens that prompt or output have already."""
    presence_penalty: float = 0.0
    """Is taken from the logits of tokens that the output has already."""
    frequency_penalty: float = 0.0
    """Is taken from the logits of tokens of the output, once for each time that they are there."""

    @property
    def penalizes(self) -> bool:
        """Whether the tokens so far change what is sampled next."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a sequence ends.

    max_tokens: generated tokens in the whole stream, those given before a handoff or
    a resume included. stop_ids end the stream and are themselves given out (the
    gateway hides them); until min_tokens are generated they can't be sampled.
    """

    max_tokens: int
    min_tokens: int = 0
    stop_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Profile:
    """What work costs on one worker, in seconds; every coefficient is >= 0.

    prefill of tokens [p, n):  prefill_s[0] + prefill_s[1] * (n - p) + prefill_s[2] * (n*n - p*p)
    one decode step:           step_s[0] + step_s[1] * sequences + step_s[2] * kv_tokens
    lifting a block from the arena into device pages: transfer_s[0] + transfer_s[1] * bytes
    Features after Mooncake (arXiv 2407.00079, sections 5 and 6): flops(n) = l(a n^2 d + b n d^2).
    """

    prefill_s: tuple[float, float, float]
    step_s: tuple[float, float, float]
    transfer_s: tuple[float, float] = (0.0, 0.0)


class Priority(StrEnum):
    """How a request weighs against others when there is not room for all."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Ask:
    """What the gateway asks the conductor.

    names: of the full blocks of ``tokens`` tokens (prompt and, when a stream resumes,
    what it has generated). excluded: workers that refused or failed this request. ttft_slo_s,
    tpot_slo_s: what it wants instead of what the deployment promises. waited_s: how long it has
    been asking in vain. resumed: its stream has begun, so it is not refused for being late. spent_s: what had
    passed of its time when it was asked for first: a promise counts from a request's arrival at its gateway.
    """

    request: RequestId
    names: tuple[BlockName, ...]
    tokens: int
    max_new_tokens: int
    excluded: frozenset[WorkerId] = frozenset()
    ttft_slo_s: float | None = None
    tpot_slo_s: float | None = None
    priority: Priority = Priority.INTERACTIVE
    tenant: str = ""
    waited_s: float = 0.0
    resumed: bool = False
    spent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Promise:
    """What a deployment promises to requests that do not say what they want; inf: nothing."""

    ttft_s: float = inf
    tpot_s: float = inf

    def to(self, ask: Ask) -> "Promise":
        return Promise(
            self.ttft_s if ask.ttft_slo_s is None else ask.ttft_slo_s,
            self.tpot_s if ask.tpot_slo_s is None else ask.tpot_slo_s,
        )


NO_PROMISE = Promise()


@dataclass(frozen=True, slots=True)
class Urgency:
    """What a worker is told of the promises of one sequence, as durations: no clock is shared.

    ttft_left_s: until its first token is due, negative where it is late already, inf where nothing is promised.
    cached_tokens: of its tokens, those that it is expected to find; until it has looked, the rest is its work.
    admitted: others were refused for the sake of its promise, so it is not set aside as soon as it is late.
    """

    ttft_left_s: float = inf
    tpot_s: float = inf
    priority: Priority = Priority.INTERACTIVE
    cached_tokens: int = 0
    admitted: bool = False


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """A store, and where its transfers listen (host:port)."""

    store: StoreId
    address: str


@dataclass(frozen=True, slots=True)
class Target:
    """A worker, and where to call it (a gRPC target). store: the one it uses, where others can reach it."""

    worker: WorkerId
    address: str
    store: StoreTarget | None = None


class Decision(StrEnum):
    """Why a request is handed over, or why not."""

    HANDED_OVER = "handed over"
    INLINE_SOONER = "inline, sooner"
    """A handoff would end later, and no other stream waits long for it."""
    INLINE_ALONE = "inline, no pair"
    """No prefill worker can hand over to a decode worker."""
    DEGRADED = "inline, degraded"
    """One role has no worker left for it: one of the other role does all of it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Who serves a request. Without ``prefill`` the decode worker prefills inline.

    source: the store from which whoever prefills fetches what its own one lacks of the prefix.
    decision: why another worker prefills, or none.
    second_check: when the prefill ends, and before its token is given out, the conductor is to be asked again.
    promise: what holds for it, so that its workers keep what it was admitted by. admitted: it was judged by that.
    """

    request: RequestId
    decode: Target
    prefill: Target | None
    predicted_ttft_s: float
    predicted_tpot_s: float
    predicted_cached_tokens: int
    decision: Decision
    source: StoreTarget | None = None
    second_check: bool = False
    promise: Promise = NO_PROMISE
    admitted: bool = False


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """What a store is told to fetch before anybody asks it to: names of one prefix, from the root."""

    id: int
    names: tuple[BlockName, ...]
    source: StoreTarget
    within_s: float


class RejectionCode(StrEnum):
    UNAVAILABLE = "unavailable"
    """No live worker can do it now: HTTP 503 with Retry-After."""
    OVERLOADED = "overloaded"
    """Every candidate is full: HTTP 429 with Retry-After."""
    UNATTAINABLE = "slo_unattainable"
    """It would be later than promised: HTTP 429 with Retry-After."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An honest no. reason is a sentence for the client. predicted_ttft_s: by which it was judged, if it was.
    futile: the same request would be refused by an idle cluster, too."""

    request: RequestId
    code: RejectionCode
    reason: str
    retry_after_s: float
    predicted_ttft_s: float | None = None
    futile: bool = False


class Outcome(StrEnum):
    """What became of a placement, told by the gateway to every conductor."""

    HANDED_OVER = "handed_over"
    """The decode worker confirmed its leases; prefill's booking ends."""
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a request got, by its gateway's clock; None where there was nothing to measure."""

    ttft_s: float | None = None
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker's view of itself, sent every ~100 ms and after a change of role.

    incarnation: random, new at each start. sequence: 1, 2, .. within an incarnation.
    running: sequences in the batch; waiting: those queued or loading. live: ids of
    all of them. prefill_tokens_queued: prompt tokens not yet computed.
    prefills_queued, prefill_squares_queued: sequences that have such tokens [p, n), and the sum of their n * n - p * p.
    kv_tokens: tokens whose KV the running batch attends to. block_bytes: of one block's KV, 0 if
    that is not told, and copies are then priced as if they had no bytes.
    """

    worker: WorkerId
    incarnation: int
    sequence: int
    role: Role
    address: str
    store: StoreId | None
    pid: int
    identity: Identity
    profile: Profile
    max_num_seqs: int
    max_model_len: int
    running: int
    waiting: int
    prefill_tokens_queued: int
    kv_tokens: int
    device_blocks_free: int
    device_blocks_total: int
    live: tuple[RequestId, ...] = ()
    draining: bool = False
    block_bytes: int = 0
    prefills_queued: int = 0
    prefill_squares_queued: int = 0


class Resync(StrEnum):
    """Why a store should tell all its names next."""

    GAP = "gap"
    """A report was missed, or the first one was none of all its names."""
    DRIFT = "drift"
    """None was missed, and yet what is believed is not what it holds: a bug, somewhere."""


@dataclass(frozen=True, slots=True)
class SsdReport:
    """A store's SSD tier. state: "opening", "on" or "off"; reason: why it is off; pending: sealed, not yet written."""

    state: str
    reason: str = ""
    slots_total: int = 0
    slots_held: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class HitsReport:
    """Names that lookups asked a store for since its start, and where they were found."""

    asked: int = 0
    dram: int = 0
    ssd: int = 0
    peer: int = 0


@dataclass(frozen=True, slots=True)
class OwnerReport:
    """Who holds slots of an arena: a worker's session, or a peer's. set_aside: its connection broke."""

    owner: str
    leases: int
    writing: int
    set_aside: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """Bytes of blocks that came to a store, and the seconds in which they flowed, at the pace of whoever flows alone:
    time that several shared is divided among them. source: the store that sent them; None: its own SSD."""

    source: StoreId | None
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Digests:
    """What a store's names come to: in DRAM, and on the SSD."""

    dram: Digest
    ssd: Digest


@dataclass(frozen=True, slots=True)
class StoreReport:
    """A store's view of itself: counts always, names as a snapshot or as deltas.

    A gap in ``sequence`` makes the conductor ask for a snapshot. Short blocks are never named here.
    gained, lost: in DRAM; ssd_gained, ssd_lost: on the SSD. transfer_address: where other stores push
    to and fetch from, empty where they can't. ssd None: the store was given none. digests: of all names that it
    holds with this report, now and then, so that whoever believes otherwise finds out. carried: since the report
    before, one of each source; what a lost report told is lost.
    """

    store: StoreId
    incarnation: int
    sequence: int
    address: str
    pid: int
    identity: Identity | None
    slots_total: int
    slots_free: int
    slots_writing: int
    slots_sealed: int
    leases: int
    snapshot: bool
    gained: tuple[BlockName, ...] = ()
    lost: tuple[BlockName, ...] = ()
    sessions: tuple[str, ...] = field(default=())
    transfer_address: str = ""
    ssd_gained: tuple[BlockName, ...] = ()
    ssd_lost: tuple[BlockName, ...] = ()
    ssd: SsdReport | None = None
    hits: HitsReport = HitsReport()
    owners: tuple[OwnerReport, ...] = ()
    digests: Digests | None = None
    carried: tuple[Carried, ...] = ()


@dataclass(frozen=True, slots=True)
class Lifted:
    """Prompt tokens whose KV a worker copied from its store instead of computing it, by where the store had them.

    host: in its memory. disk: on its SSD. p2p: at another store.
    """

    host: int = 0
    disk: int = 0
    p2p: int = 0

    @property
    def total(self) -> int:
        return self.host + self.disk + self.p2p

    def within(self, tokens: int) -> "Lifted":
        """The first ``tokens`` of them: of blocks that reach beyond what is counted."""
        host = min(self.host, tokens)
        disk = min(self.disk, tokens - host)
        return Lifted(host, disk, min(self.p2p, tokens - host - disk))


NOTHING_LIFTED = Lifted()
