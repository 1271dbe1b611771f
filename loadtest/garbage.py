"""How often Python looks for garbage while a load test or a simulation runs.

There is some: a simulated story and its parts refer to each other. But a look goes through all that lives, the trace
and the records of a million requests among it, and by default one begins with every 700 new objects: a sixth of a
simulation's time, and milliseconds in which a client notices no token.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 100_000
"""Between two looks at what is new. A simulated request leaves some hundred, of 10 KB together: that is 10 MB."""

OLDER = 20
"""Looks at what is new for one at what is older."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Of the whole process, and as before afterwards."""
    before = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, OLDER, OLDER)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def set_apart() -> Iterator[None]:
    """What there is now stays: nobody looks at it meanwhile."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
