"""Python's cycle collector, while very many objects come to stay.

It looks at all of them each time their number has grown by a quarter: for a million blocks that is seconds in
which nobody is answered, for nothing, as none of them is in a cycle.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 1 << 16
"""Blocks; a collection takes 2 us for each that has just been found on a disk."""


@contextmanager
def collector_paused() -> Iterator[None]:
    """For as long as objects come; what is in cycles meanwhile goes later."""
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
