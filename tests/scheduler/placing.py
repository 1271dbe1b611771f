"""Conductors to place requests with, and what became of one that was asked."""

from collections.abc import Sequence

from scheduler.conductor import Conductor
from scheduler.vocabulary import Ask, Placement, Rejection, Role, WorkerReport
from tests.scheduler.build import names, prompt, store_report

P, D, M = Role.PREFILL, Role.DECODE, Role.MIXED


def conductor(
    *workers: WorkerReport,
    held: int = 0,
    stores: Sequence[str] = ("s",),
    inline_max_tokens: int | None = None,
    policy: str = "kvcache-centric",
) -> Conductor:
    """With these workers; the first store holds that many tokens of ``prompt``."""
    made = Conductor(inline_max_tokens=inline_max_tokens, policy=policy)
    for worker in workers:
        made.worker_reported(worker, now=0)
    for index, store in enumerate(stores):
        made.store_reported(store_report(store, snapshot=True, gained=names(prompt(held if not index else 0))), now=0)
    return made


def placed(made: Conductor, asked: Ask, *, now: float = 0.0) -> Placement:
    answer = made.place(asked, now=now)
    assert isinstance(answer, Placement), answer
    return answer


def where(made: Conductor, asked: Ask) -> tuple[str | None, str]:
    answer = placed(made, asked)
    return (None if answer.prefill is None else answer.prefill.worker, answer.decode.worker)


def refused(made: Conductor, asked: Ask, *, now: float = 0.0) -> Rejection:
    answer = made.place(asked, now=now)
    assert isinstance(answer, Rejection), answer
    return answer


def hosts(
    *workers: WorkerReport,
    held: dict[str, int] | None = None,
    ssd: dict[str, int] | None = None,
    silent: str = "",
    policy: str = "kvcache-centric",
) -> Conductor:
    """Stores s, t and u can be reached by each other, except a silent one; they hold so many tokens of ``prompt``."""
    made = conductor(*workers, stores=(), policy=policy)
    for store in "stu":
        dram, disk = (names(prompt((what or {}).get(store, 0))) for what in (held, ssd))
        report = store_report(store, snapshot=True, gained=dram, ssd_gained=disk, transfer=store != silent)
        made.store_reported(report, now=0)
    return made
