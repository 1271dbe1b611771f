"""Simulations in processes of their own, so many at a time; experiments wait for them in threads."""

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from loadtest.reproduce.bench import Maker
from loadtest.reproduce.run import Made, Run, make
from loadtest.traces import Row


@contextmanager
def crew(jobs: int) -> Iterator[Maker]:
    """With one job it is this process that simulates."""
    if jobs == 1:
        yield make
        return
    # Fresh processes: a fork of one with threads may inherit a lock that nobody will release. Ctrl-C ends them as
    # it ends us, without a word.
    context, quiet = get_context("spawn"), (signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(jobs, context, initializer=signal.signal, initargs=quiet) as pool:

        def made(rows: list[Row], seed: int, run: Run) -> Made:
            return pool.submit(make, rows, seed, run).result()

        yield made
