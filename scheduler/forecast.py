"""What one request would cost at every worker at once: arrays by row of the workers' table.

The formulas are those of docs/scheduling.md; nothing is chosen here. A prefix counts by the tier that
holds it, from wherever fetching it beats computing it, and a prefix that is being computed from when it
will exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.beliefs import Beliefs
from scheduler.costs import FETCH_GAIN, LINK_S
from scheduler.demand import Demand
from scheduler.table import NOBODY, Bools, Floats, Ints
from scheduler.vocabulary import Ask, WorkerId

SOURCES = 2
"""Stores that are considered to fetch from: the best one, and another for workers of the best one's own host."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """By row of the workers' table, nobody's last.

    prefiller, decoder: may be given this request's prefill, its decode. store: row of its store; linked: that is
    alive; reachable: others can push to it and fetch from it while it is. cached: blocks not computed, of those held;
    fetched from the store of row source (NOBODY: nothing is fetched), copied_bytes over the link. wait_s: until it
    could begin. work_s: what it is busy for then. near_ttft_s: without fetching.
    """

    prefiller: Bools
    decoder: Bools
    degraded: bool
    """No decode worker can take it: prefill workers do all of it, inline."""
    dedicated: Bools
    store: Ints
    linked: Bools
    reachable: Bools
    sequences: Floats
    kv_tokens: Floats
    """As all that is promised would have it."""
    seats: Floats
    capacity: Floats
    """KV tokens that it has device blocks for."""
    step_s: tuple[Floats, Floats, Floats]
    ranks: Ints
    shared: int
    """Leading blocks that some store holds, at most those that need not be computed."""
    cached: Ints
    source: Ints
    copied_bytes: Floats
    wait_s: Floats
    work_s: Floats
    ttft_s: Floats
    others_s: Floats
    """By how much all who come after are later, together, if this one prefills it."""
    near_blocks: Ints
    near_ttft_s: Floats
    reach: Ints
    tpot_s: Floats
    room: Bools
    lift_s: Floats
    """Of the whole prompt, at d."""
    lacked_bytes: Floats
    """Of the whole prompt, that the worker's store lacks."""
    sends_s: Floats
    receives_s: Floats
    """What the links of the worker's store have to do already."""
    send_byte_s: Floats
    receive_byte_s: Floats
    """What a byte takes of them; from one to another it takes the slower's time."""


def forecast(beliefs: Beliefs, ask: Ask, *, fetches: bool, demand: Demand, now: float) -> Forecast:
    """fetches: whether prefixes may come from other stores."""
    assert beliefs.identity is not None, "somebody lives"
    table, stores, size, tokens = beliefs.worker_table, beliefs.store_table, beliefs.identity.block_tokens, ask.tokens
    column = table.column
    store: Ints = column("store")
    alive = _serving(beliefs, ask.excluded, now)
    held_in = beliefs.prefixes.longest(ask.names)
    place: Ints = stores.column("place")
    store_alive: Bools = stores.column("heard_s") >= now - beliefs.report_ttl_s
    store_reachable: Bools = stores.column("reachable")  # whether it is alive is asked besides
    sends_s, receives_s = stores.column("sends_s"), stores.column("receives_s")
    send_byte_s, receive_byte_s = stores.column("send_byte_s"), stores.column("receive_byte_s")[store]
    linked = store_alive[store]
    block_bytes: Floats = column("block_bytes")
    wait_s: Floats = column("queue_s") + column("under_way_s")

    # At least the last token is computed, and chunks start at block boundaries.
    most = (tokens - 1) // size
    held = np.where(store_alive, np.minimum(held_in.held[place], most), 0)  # by store's row
    on_ssd = np.minimum(held_in.ssd[place], held)
    near, near_ssd = held[store], on_ssd[store]
    reach = held_in.held[place]
    for start, end, run in beliefs.coming.along(ask.names):
        row = stores.row(run.store)
        if row != NOBODY and reach[row] >= start:
            reach[row] = max(reach[row], end)
            # Whoever would begin later anyway finds them.
            near = np.where((store == row) & (wait_s >= run.ready_s - now), np.maximum(near, min(end, most)), near)
    base, linear, square = column("prefill_s0"), column("prefill_s1"), column("prefill_s2")
    lift_base, lift_byte = column("transfer_s0"), column("transfer_s1") * block_bytes

    def work_s(blocks: Ints) -> Floats:
        cached = blocks * size
        lifted = np.where(blocks > 0, lift_base + lift_byte * blocks, 0.0)
        seconds: Floats = base + linear * (tokens - cached) + square * (tokens * tokens - cached * cached) + lifted
        return seconds

    near_work_s = work_s(near)
    read_byte_s: Floats = stores.column("read_byte_s")
    read_s = read_byte_s[store] * block_bytes
    near_ttft_s = np.maximum(wait_s, read_s * near_ssd) + near_work_s
    cached, work, ttft_s = near, near_work_s, near_ttft_s
    source, copied_bytes = np.full(len(store), NOBODY), np.zeros(len(store))
    if fetches:
        for row in _sources(held, on_ssd, store_reachable, sends_s, stores.ranks()):
            able = linked & (store != row) & (near < held[row])
            if not able.any():
                continue
            far_bytes = block_bytes * (held[row] - near)
            link_s = np.maximum(send_byte_s[row], receive_byte_s) * far_bytes
            backlog_s = np.maximum(sends_s[row], receives_s[store])
            share = (held[row] - near) / held[row]  # of the source's blocks, and so, about, of those on its SSD
            far_read_s = read_byte_s[row] * block_bytes * share * on_ssd[row]
            fetched_s = LINK_S + backlog_s + link_s + read_s * near_ssd + far_read_s
            far_work_s = work_s(np.full(len(store), held[row]))
            far_ttft_s = np.maximum(wait_s, fetched_s) + far_work_s
            better = able & (far_ttft_s < np.minimum(ttft_s, (1.0 - FETCH_GAIN) * near_ttft_s))
            cached, work = np.where(better, held[row], cached), np.where(better, far_work_s, work)
            ttft_s, source = np.where(better, far_ttft_s, ttft_s), np.where(better, row, source)
            copied_bytes = np.where(better, far_bytes, copied_bytes)

    fits = alive & (tokens < column("context"))
    sequences, blocks = column("sequences"), -(-(tokens + 1) // size)  # of the prompt and the first token
    kv_tokens, seats = column("kv_tokens"), column("seats")
    step_s = (column("step_s0"), column("step_s1"), column("step_s2"))
    prefiller, decoder = fits & column("prefills"), fits & column("decodes")
    degraded = not decoder.any()
    pressure_per_s = demand.pressure_per_s(prefiller, now=now)
    return Forecast(
        prefiller=prefiller,
        decoder=prefiller if degraded else decoder,
        degraded=degraded,
        dedicated=np.zeros_like(fits) if degraded else column("dedicated"),
        store=store,
        linked=linked,
        reachable=store_reachable[store],
        sequences=sequences,
        kv_tokens=kv_tokens,
        seats=seats,
        capacity=column("blocks_total") * size,
        step_s=step_s,
        ranks=table.ranks(),
        shared=int(held.max()),
        cached=cached,
        source=source,
        copied_bytes=copied_bytes,
        wait_s=wait_s,
        work_s=work,
        ttft_s=ttft_s,
        others_s=pressure_per_s * work * (wait_s + work / 2),
        near_blocks=near,
        near_ttft_s=near_ttft_s,
        reach=reach[store],
        tpot_s=step_s[0] + step_s[1] * (sequences + 1) + step_s[2] * (kv_tokens + tokens),
        room=(sequences < seats) & (blocks <= column("blocks_free")),
        lift_s=lift_base + lift_byte * blocks,
        lacked_bytes=block_bytes * np.maximum(0, blocks - held[store]),
        sends_s=sends_s[store],
        receives_s=receives_s[store],
        send_byte_s=send_byte_s[store],
        receive_byte_s=receive_byte_s,
    )


def _serving(beliefs: Beliefs, excluded: frozenset[WorkerId], now: float) -> Bools:
    table = beliefs.worker_table
    serving: Bools = table.column("serving") & (table.column("heard_s") >= now - beliefs.report_ttl_s)
    for worker in excluded:
        row = table.row(worker)
        if row != NOBODY:
            serving[row] = False
    return serving


def _sources(held: Ints, on_ssd: Ints, reachable: Bools, sends_s: Floats, ranks: Ints) -> Sequence[int]:
    """The stores that hold most and can be fetched from; of equals, those with the least to send and to read."""
    lengths = np.where(reachable, held, 0)
    longest = int(lengths.max())
    if not longest:
        return ()
    rows = np.flatnonzero(lengths == longest)
    if len(rows) < SOURCES and (rest := int(lengths[lengths < longest].max(initial=0))):
        rows = np.concatenate([rows, np.flatnonzero(lengths == rest)])
    order = np.lexsort((ranks[rows], on_ssd[rows], sends_s[rows], -lengths[rows]))
    return [int(row) for row in rows[order[:SOURCES]]]
