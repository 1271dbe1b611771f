"""Keep the cores from falling asleep while a call is timed, as they are kept beside a model that computes.

A core of a virtual machine that has nothing to do is given back, and takes a tenth of a millisecond or more
to be had again; a call between two processes waits for that several times. Whoever serves a model never does.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPIN = """
import os
parent = os.getppid()
os.nice(19)
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def awake() -> Iterator[None]:
    """One process for each core that has nothing to do and does it at the lowest priority; gone with this one."""
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
