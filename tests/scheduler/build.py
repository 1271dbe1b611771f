"""Short words for the nouns of scheduling, with small numbers: blocks of 4 tokens, free arithmetic."""

from collections.abc import Iterable, Sequence
from math import inf

from kvstore.device import DeviceBlocks
from kvstore.layout import Identity
from kvstore.names import BlockName, block_names, root_name
from scheduler.batch import Batch
from scheduler.batching import Batcher
from scheduler.estimate import FREE
from scheduler.progress import BatchLimits, Progress
from scheduler.sequence import Running, sequence
from scheduler.vocabulary import (
    Ask,
    Carried,
    Digests,
    Limits,
    Priority,
    Profile,
    RequestId,
    Role,
    Sampling,
    StoreId,
    StoreReport,
    Urgency,
    WorkerId,
    WorkerReport,
)

SIZE = 4
"""Tokens in a block."""

ROOT = root_name(b"\x01" * 32)

IDENTITY = Identity("tiny", "aa", "float32", SIZE, "layout")
OTHER = Identity("tiny", "bb", "float32", SIZE, "layout")

CPU = Profile(prefill_s=(0.004, 1 / 1500, 1e-8), step_s=(0.01, 0.0006, 1e-6), transfer_s=(1e-4, 1e-10))
"""About one core with the embedded model."""


def batcher(
    blocks: int = 64,
    *,
    seats: int = 8,
    tokens: int = 64,
    context: int = 1024,
    waiting: int = 100,
    step_s: float = 0.25,
    profile: Profile = FREE,
) -> tuple[Batcher, DeviceBlocks]:
    device = DeviceBlocks(blocks)
    limits = BatchLimits(seats, tokens, context, waiting, step_s)
    return Batcher(device, block_tokens=SIZE, limits=limits, profile=profile), device


def prompt(length: int, *, start: int = 0) -> list[int]:
    return [(start + position) % 500 for position in range(length)]


def ask_for(
    request: str,
    tokens: Sequence[int],
    *,
    output: Sequence[int] = (),
    most: int = 100,
    least: int = 0,
    stops: Iterable[int] = (),
    hand_over: bool = False,
    handed_over: bool = False,
    ttft_s: float = inf,
    tpot_s: float = inf,
    priority: Priority = Priority.INTERACTIVE,
    cached: int = 0,
    sampling: Sampling | None = None,
    admitted: bool = False,
) -> Running:
    """ttft_s, tpot_s: what was promised, from now on."""
    return sequence(
        RequestId(request),
        root=ROOT,
        prompt=tokens,
        output=output,
        sampling=sampling or Sampling(),
        limits=Limits(most, least, frozenset(stops)),
        hand_over=hand_over,
        handed_over=handed_over,
        urgency=Urgency(ttft_s, tpot_s, priority, cached, admitted),
    )


def admitted(worker: Batcher, *, now: float = 0.0, **blocks: int) -> list[str]:
    """Admit whoever fits, with so many blocks from the store."""
    loads = worker.admit(now=now)
    for load in loads:
        worker.loaded(load.request, blocks.get(load.request, 0))
    return [load.request for load in loads]


def ran(worker: Batcher, batch: Batch | None, *, token: int = 7, now: float = 0.0) -> list[Progress]:
    """Apply a batch in which everybody who wants a token gets this one."""
    assert batch is not None
    return worker.applied(batch, [token if piece.sampling else None for piece in batch.slices], now=now)


def step(worker: Batcher, *, token: int = 7, now: float = 0.0) -> list[Progress]:
    admitted(worker, now=now)
    return ran(worker, worker.next(now=now), token=token, now=now)


def worker_report(
    worker: str,
    role: Role = Role.DECODE,
    *,
    sequence: int = 1,
    incarnation: int = 1,
    store: str | None = "s",
    identity: Identity = IDENTITY,
    profile: Profile = CPU,
    seats: int = 8,
    context: int = 4096,
    running: int = 0,
    waiting: int = 0,
    queued: int = 0,
    kv_tokens: int = 0,
    blocks_free: int = 2000,
    live: Sequence[str] = (),
    draining: bool = False,
    block_bytes: int = 1024,
) -> WorkerReport:
    return WorkerReport(
        WorkerId(worker),
        incarnation,
        sequence,
        role,
        f"unix:/{worker}",
        None if store is None else StoreId(store),
        1,
        identity,
        profile,
        seats,
        context,
        running,
        waiting,
        queued,
        kv_tokens,
        blocks_free,
        max(2000, blocks_free),
        tuple(map(RequestId, live)),
        draining,
        block_bytes,
    )


def store_report(
    store: str = "s",
    *,
    sequence: int = 1,
    incarnation: int = 1,
    snapshot: bool = False,
    gained: Sequence[BlockName] = (),
    lost: Sequence[BlockName] = (),
    identity: Identity | None = IDENTITY,
    transfer: bool = False,
    ssd_gained: Sequence[BlockName] = (),
    ssd_lost: Sequence[BlockName] = (),
    digests: Digests | None = None,
    carried: Iterable[Carried] = (),
) -> StoreReport:
    """transfer: other stores can push to it and fetch from it."""
    return StoreReport(
        StoreId(store),
        incarnation,
        sequence,
        f"unix:/{store}",
        1,
        identity,
        100,
        100,
        0,
        0,
        0,
        snapshot,
        tuple(gained),
        tuple(lost),
        transfer_address=f"{store}:1" if transfer else "",
        ssd_gained=tuple(ssd_gained),
        ssd_lost=tuple(ssd_lost),
        digests=digests,
        carried=tuple(carried),
    )


def names(tokens: Sequence[int]) -> tuple[BlockName, ...]:
    return tuple(block_names(ROOT, tokens, SIZE))


def ask(request: str = "r", tokens: int = 100, *, most: int = 64, excluded: Iterable[str] = ()) -> Ask:
    return Ask(RequestId(request), names(prompt(tokens)), tokens, most, frozenset(map(WorkerId, excluded)))
