"""What files hold, as a short text: so that a replaced file is never taken for the one before it.

Size, times and inode can all be the same for other bytes (``cp -p``, ``rsync --times``, tar, images that are built
reproducibly, file systems that keep no time of change), so all bytes are read.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import xxhash

CHUNK_BYTES = 4 << 20


def content_of(paths: Sequence[Path], *, on_progress: Callable[[float], None] = lambda done: None) -> str:
    """XXH3, 128 bits in hex, of these files' bytes in this order, each with its length. Raises OSError.

    About 0.17 s per GB from the page cache (one core, measured), else as long as reading takes.
    """
    total = sum(path.stat().st_size for path in paths) or 1
    whole, buffer, done = xxhash.xxh3_128(), memoryview(bytearray(CHUNK_BYTES)), 0
    for path in paths:
        before = done
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                whole.update(buffer[:count])
                done += count
                on_progress(done / total)
        whole.update((done - before).to_bytes(8, "little"))
    return whole.hexdigest()
