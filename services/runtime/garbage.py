"""Keep Python's garbage collector away from those who wait for an answer.

What a process keeps is freed by reference counts alone; cycles, which it is there for, come from tracebacks and tasks
only. But it looks at all that lives: with 1,000 workers that takes a conductor 5 to 30 ms, and a store that finds a
million blocks on its disk seconds, as it begins anew each time that their number has grown by a quarter.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 1 << 16
"""Blocks; a collection takes 2 us for each that has just been found on a disk."""


def collect_seldom() -> None:
    """To be called once when everything is loaded: what lives now is never looked at again, the rest seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@contextmanager
def collector_paused() -> Iterator[None]:
    """For as long as very many objects come to stay; what is in cycles meanwhile goes later."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def leave_alone(blocks: int) -> None:
    """Never look again at what there is now, if that is so many blocks; whatever dies of it is freed all the same."""
    if blocks >= MANY:
        gc.freeze()
