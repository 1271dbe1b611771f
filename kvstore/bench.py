"""What the catalog and the table of device blocks cost: ``python -m kvstore.bench [--json]``.

Decisions only; copying bytes in and out of the arena is measured where processes do it.
Times are medians (p50) and 99th percentiles of many calls on a full store of 8,192 slots
and full devices, so that every grant evicts. There is no limit of the machine to compare
them with; what counts is that they are small beside a step of the model.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kvstore.catalog import Catalog
from kvstore.conversations import PlainLru, Table, converse
from kvstore.device import DeviceBlocks
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.vocabulary import Demote, DiskEntry, Drop, SessionId, Write

SLOTS = 8192
CHAIN = 256
"""Blocks of a prefix: 16,384 tokens of 64 a block."""
CALL = 64
"""Names in one call of a writer."""

Row = dict[str, str | float | None]


def row(name: str, value: float, unit: str) -> Row:
    return {"name": name, "value": round(value, 3), "unit": unit, "limit": None, "ratio": None}


class Timer:
    """How long calls took, by the row they belong to."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds.setdefault(name, []).append(time.perf_counter() - start)

    def rows(self) -> list[Row]:
        return [
            row(f"{name}_p{percentile}", sorted(seconds)[len(seconds) * percentile // 100] * 1e6, "us")
            for name, seconds in self._seconds.items()
            for percentile in (50, 99)
        ]


def catalog_rows(chance: random.Random, *, rounds: int, ssd_slots: int = 0) -> list[Row]:
    """Prefixes of 256 blocks are written 64 blocks a call, then read whole, on a store that is full.

    ssd_slots: with an SSD tier all of it is written behind, on a disk that takes no time. Rows end in ``_ssd`` then.
    """
    layout = KvLayout(64, (4096,), "bytes")
    identity = Identity("bench", "none", "none", 64, layout.digest)
    catalog = Catalog()
    catalog.adopt(identity, layout, SLOTS)
    if ssd_slots:
        catalog.attach_disk(ssd_slots, [])
    tier = "_ssd" if ssd_slots else ""
    writer, reader = SessionId("writer"), SessionId("reader")
    for session in (writer, reader):
        catalog.hello(session, worker=session, incarnation=1, identity=identity)
    filling, timer = Timer(), Timer()
    for turn in range((1 + rounds) * SLOTS // CHAIN):
        timing = timer if turn >= SLOTS // CHAIN else filling
        chain = [BlockName(chance.randbytes(16)) for _ in range(CHAIN)]
        for start in range(0, CHAIN, CALL):
            part = chain[max(start - 1, 0) : start + CALL]
            with timing(f"allocate_{CALL}{tier}"):
                grants = catalog.allocate(writer, part, last_is_short=False, hold=False, now=0.0)
            writes = [grant for grant in grants if isinstance(grant, Write)]
            with timing(f"drop_{CALL}{tier}"):
                demotes = _make_room(catalog)
            with timing(f"seal_{CALL}{tier}"):
                catalog.seal(writer, writes, [0] * len(writes), now=0.0)
            while demotes := [*demotes, *_make_room(catalog)]:
                for move in demotes:
                    with timing("demote"):
                        catalog.demoted(move, done=True, now=0.0)
                demotes = []
        with timing(f"acquire_{CHAIN}{tier}"):
            (answer,) = catalog.acquire(reader, turn, chain, deadline=0.0, now=0.0)
        assert len(answer.leases) == CHAIN
        with timing(f"release_{CHAIN}{tier}"):
            catalog.release(reader, answer.leases)
    catalog.check()
    return timer.rows()


def _make_room(catalog: Catalog) -> list[Demote]:
    """As a shell does after each call: drops at once. What is to be written behind instead."""
    demotes = []
    for move in catalog.moves(now=0.0):
        match move:
            case Drop():
                catalog.dropped(move)
            case Demote():
                demotes.append(move)
            case _:
                raise AssertionError("nothing else is asked for here")
    return demotes


def opening_rows(chance: random.Random, *, blocks: int) -> list[Row]:
    """How long a store stands still when it makes its slots, and when it takes over what a scan of the disk found."""
    layout = KvLayout(64, (4096,), "bytes")
    catalog = Catalog()
    entries = [DiskEntry(slot, BlockName(chance.randbytes(16)), slot, 64) for slot in range(blocks)]
    start = time.perf_counter()
    catalog.adopt(Identity("bench", "none", "none", 64, layout.digest), layout, blocks)
    adopted = time.perf_counter()
    catalog.attach_disk(blocks, entries)
    attached = time.perf_counter()
    return [row(f"adopt_{blocks}", adopted - start, "s"), row(f"attach_disk_{blocks}", attached - adopted, "s")]


class TimedDevice(DeviceBlocks):
    """Tells apart the first blocks of a sequence and those it grows by."""

    def __init__(self, total: int, setting: str) -> None:
        super().__init__(total)
        self.timer = Timer()
        self._setting = setting

    def take(self, count: int, *, after: int | None = None) -> list[int] | None:
        with self.timer(f"{'take' if count > 1 else 'grow'}_{self._setting}"):
            return super().take(count, after=after)


def device_rows(total: int, *, running: int, conversations: int, turns: int) -> list[Row]:
    """One workload over our table and over plain LRU. In a row's name: blocks x running x conversations."""
    setting = f"{total}x{running}x{conversations}"
    device = TimedDevice(total, setting)
    tables: dict[str, Table] = {setting: device, f"plain_{setting}": PlainLru(total)}
    rows: list[Row] = []
    for name, table in tables.items():
        chance = random.Random(conversations)
        outcome = converse(table, conversations=conversations, running=running, turns=turns, chance=chance)
        rows += [row(f"found_{name}", outcome.found, "share"), row(f"rows_{name}", outcome.rows, "rows")]
    return rows + device.timer.rows()


def measure(*, quick: bool) -> list[Row]:
    turns = 60 if quick else 1500
    rounds = 1 if quick else 8
    rows = catalog_rows(random.Random(1), rounds=rounds)
    rows += catalog_rows(random.Random(1), rounds=rounds, ssd_slots=2 * SLOTS)
    rows += opening_rows(random.Random(1), blocks=10_000 if quick else 1_000_000)
    for total, running, conversations in [(1000, 8, 100), (1000, 16, 25), (4096, 32, 400), (4096, 32, 100)]:
        rows += device_rows(total, running=running, conversations=conversations, turns=turns)
    return rows


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kvstore.bench", description="What the store's decisions cost.")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--quick", action="store_true", help="too few turns for figures, enough to see that it runs")
    options = parser.parse_args(argv)
    rows = measure(quick=options.quick)
    if options.json:
        settings = {"slots": SLOTS, "quick": options.quick}
        print(json.dumps({"rows": rows, "commit": commit(), "machine": machine(), "settings": settings}))
    else:
        for each in rows:
            print(f"{each['name']:<28}{each['value']:>12} {each['unit']}")
    return 0


def commit() -> str:
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
