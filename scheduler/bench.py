"""What the conductor's decisions cost: placements among many workers, and the reports that precede them.

Given a clock; the cluster is made up from a seed: a worker and a store on each host, half of the workers
prefilling, stores full of names of conversations, the hottest prefixes on many of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from kvstore.layout import Identity
from kvstore.names import BlockName
from scheduler.conductor import Conductor
from scheduler.prefixes import PrefixIndex
from scheduler.vocabulary import (
    Ask,
    Carried,
    Outcome,
    Placement,
    Profile,
    RequestId,
    Role,
    StoreId,
    StoreReport,
    WorkerId,
    WorkerReport,
)

NAMES = 256
"""Of an ask: 16,384 tokens in blocks of 64."""

BLOCK_TOKENS = 64
IDENTITY = Identity("bench", "weights", "bfloat16", BLOCK_TOKENS, "layout")
PROFILE = Profile((0.004, 5e-5, 1e-10), (0.012, 2e-4, 1e-7), (1e-4, 4e-11))
BLOCK_BYTES = 20 << 20  # 64 tokens of 320 KB
CHUNK = 4096
"""Names in a report."""

SOURCES = 4
"""From which a store has received something since its report before."""

STORES, QUESTIONS = 1000, 200
"""Of the index alone."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Row:
    """There is no limit to compare a decision with."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    ratio: float | None = None


@dataclass(slots=True)
class Cluster:
    """A conductor and what it was told. now: simulated seconds."""

    conductor: Conductor
    workers: list[WorkerReport]
    stores: list[StoreReport]
    prompts: list[tuple[BlockName, ...]]
    rng: Random
    now: float = 0.0
    reports: int = 1

    def report(self) -> None:
        """A round of reports, as come every 0.1 s."""
        self.now += 0.1
        self.reports += 1
        for worker in self.workers:
            running, queued = self.rng.randrange(32), self.rng.choice((0, 0, 5000))
            report = replace(
                worker,
                sequence=self.reports,
                running=running,
                waiting=1 if queued else 0,
                prefill_tokens_queued=queued,
                kv_tokens=running * 4000,
            )
            self.conductor.worker_reported(report, now=self.now)
        for store in self.stores:
            name = self.rng.randbytes(16)
            carried = tuple(self._carried() for _ in range(SOURCES))
            report_ = replace(store, sequence=self.reports, snapshot=False, gained=(BlockName(name),), carried=carried)
            self.conductor.store_reported(report_, now=self.now)
        self.conductor.tick(now=self.now)

    def _carried(self) -> Carried:
        """From any store, or from one's own SSD: some blocks at one to five GB/s."""
        size_bytes = self.rng.randrange(1, 9) * BLOCK_BYTES
        source = self.rng.choice(self.stores).store if self.rng.randrange(SOURCES) else None
        return Carried(source, size_bytes, size_bytes / self.rng.uniform(1e9, 5e9))


def cluster(workers: int, blocks: int, rng: Random, clock: Clock) -> tuple[Cluster, float]:
    """And how many seconds it took to be told of that many blocks."""
    conductor, prompts = Conductor(), [tuple(_names(rng, NAMES)) for _ in range(200)]
    reports = [_worker(number, workers) for number in range(workers)]
    stores, each, ingest_s = [], blocks // workers, 0.0
    for number in range(workers):
        held = list(_names(rng, each - each // 4))
        # A quarter is of prompts that are asked for: the first of them everywhere, the last of them hardly anywhere.
        for _ in range(each // 4 // NAMES):
            prompt = prompts[min(rng.randrange(len(prompts)), rng.randrange(len(prompts)))]
            held += prompt[: rng.randrange(1, NAMES + 1)]
        chunks = [tuple(held[start : start + CHUNK]) for start in range(0, len(held), CHUNK)] or [()]
        for sequence, names in enumerate(chunks, start=1):
            report = _store(number, sequence, names)
            started = clock()
            conductor.store_reported(report, now=0.0)
            ingest_s += clock() - started
        stores.append(_store(number, len(chunks), ()))
    for report_ in reports:
        conductor.worker_reported(report_, now=0.0)
    most = max(report.sequence for report in stores)
    return Cluster(conductor, reports, stores, prompts, rng, reports=most), ingest_s


def measure(
    *, workers: tuple[int, ...], blocks: int, asks: int, seed: int, clock: Clock, rss_bytes: Callable[[], int]
) -> Iterator[Row]:
    """Rows for each number of workers, then those of the index; rss_bytes: this process's memory now."""
    before, grown_bytes = rss_bytes(), 0
    for count in workers:
        made, ingest_s = cluster(count, blocks, Random(seed), clock)
        grown_bytes = grown_bytes or rss_bytes() - before  # what the first leaves is used again by the next
        times = sorted(_place(made, asks, clock))
        yield Row(f"place_p50_{count}", times[len(times) // 2] * 1e3, "ms")
        yield Row(f"place_p99_{count}", times[int(len(times) * 0.99)] * 1e3, "ms")
        yield Row(f"place_rate_{count}", len(times) / sum(times), "placements/s")
    for held_by, seconds in longest(Random(seed), clock).items():
        yield Row(f"longest_{NAMES}_{held_by}", seconds * 1e3, "ms")
    yield Row("ingest", blocks / ingest_s, "blocks/s")
    yield Row("memory", grown_bytes / blocks, "bytes/block")


def longest(rng: Random, clock: Clock) -> dict[str, float]:
    """Median seconds of one question for the longest prefix of an ask in each of ``STORES`` stores: where a few of them
    hold it, and where every store holds another length of it."""
    prompt, taken = tuple(_names(rng, NAMES)), {}
    for held_by, holders in (("few", 4), ("all", STORES)):
        index = PrefixIndex()
        for number in range(STORES):
            some = prompt[: rng.randrange(NAMES + 1)] if number < holders else ()
            index.gained(StoreId(f"store-{number}"), (*some, *_names(rng, 16)))  # and names of its own
        times = []
        for _ in range(QUESTIONS):
            started = clock()
            index.longest(prompt)
            times.append(clock() - started)
        taken[held_by] = sorted(times)[QUESTIONS // 2]
    return taken


def _place(made: Cluster, asks: int, clock: Clock) -> list[float]:
    """Seconds of each placement; reports come between them, and requests end."""
    times, open_requests = [], []
    for number in range(asks):
        if number % 50 == 0:
            made.report()
        request = RequestId(f"{number}")
        prompt = made.rng.choice(made.prompts)
        shared = made.rng.randrange(NAMES + 1)
        names = prompt[:shared] + tuple(_names(made.rng, NAMES - shared))
        ask = Ask(request, names, NAMES * BLOCK_TOKENS + 17, 300)
        started = clock()
        answer = made.conductor.place(ask, now=made.now)
        times.append(clock() - started)
        assert isinstance(answer, Placement)
        open_requests.append(request)
        if len(open_requests) > 4 * len(made.workers):
            made.conductor.outcome(open_requests.pop(0), Outcome.FINISHED, now=made.now)
    return times


def _names(rng: Random, count: int) -> Iterator[BlockName]:
    data = rng.randbytes(16 * count)
    return (BlockName(data[start : start + 16]) for start in range(0, len(data), 16))


def _worker(number: int, count: int) -> WorkerReport:
    return WorkerReport(
        worker=WorkerId(f"worker-{number}"),
        incarnation=1,
        sequence=1,
        role=Role.PREFILL if number < count // 2 else Role.DECODE,
        address="unix:/worker",
        store=StoreId(f"store-{number}"),
        pid=1,
        identity=IDENTITY,
        profile=PROFILE,
        max_num_seqs=64,
        max_model_len=131_072,
        running=0,
        waiting=0,
        prefill_tokens_queued=0,
        kv_tokens=0,
        device_blocks_free=30_000,
        device_blocks_total=30_000,
        block_bytes=BLOCK_BYTES,
    )


def _store(number: int, sequence: int, names: tuple[BlockName, ...]) -> StoreReport:
    return StoreReport(
        store=StoreId(f"store-{number}"),
        incarnation=1,
        sequence=sequence,
        address="unix:/store",
        pid=1,
        identity=IDENTITY,
        slots_total=100_000,
        slots_free=0,
        slots_writing=0,
        slots_sealed=100_000,
        leases=0,
        snapshot=sequence == 1,
        gained=names,
        transfer_address="host:1",
    )
