"""What knowing a block costs: memory of a store's process for each million blocks that it holds.

Counted in a process of its own, as what the system gives it while its catalog learns of a full SSD
file, and of as many blocks in memory: names, slots, checksums, order of eviction, who follows whom.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

from kvstore.catalog import Catalog
from kvstore.layout import KvLayout
from kvstore.names import BlockName
from kvstore.vocabulary import DiskEntry, SessionId, Write
from services.bench.rows import Row
from services.bench.store_session import identity_of

BLOCKS = 250_000
CHAIN = 64


def index_row(blocks: int) -> Row:
    """For a million blocks in memory and a million others on the SSD, counted with ``blocks`` of each."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        size_bytes = pool.submit(_grown_bytes, blocks).result()
    return Row("index_bytes_per_million", size_bytes / blocks * 1e6, "bytes")


def _grown_bytes(blocks: int) -> int:
    chance = Random(3)
    layout = KvLayout(64, (4096,), "bytes")
    catalog = Catalog()
    before = _resident_bytes()
    catalog.adopt(identity_of(layout), layout, blocks)
    session = SessionId("bench")
    catalog.hello(session, worker="bench", incarnation=1, identity=identity_of(layout))
    catalog.attach_disk(blocks, (DiskEntry(slot, BlockName(chance.randbytes(16)), slot, 64) for slot in range(blocks)))
    for _ in range(blocks * 9 // 10 // CHAIN):  # the rest is kept free by the watermarks
        names = [BlockName(chance.randbytes(16)) for _ in range(CHAIN)]
        grants = catalog.allocate(session, names, last_is_short=False, hold=False, now=0.0)
        writes = [grant for grant in grants if isinstance(grant, Write)]
        catalog.seal(session, writes, [0] * len(writes), now=0.0)
    return _resident_bytes() - before


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
