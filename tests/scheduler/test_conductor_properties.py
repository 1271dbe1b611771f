"""What holds for every placement, whatever was reported before it and in whatever order."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.conductor import Conductor
from scheduler.vocabulary import Ask, Outcome, Placement, Rejection, RequestId, Role, StoreId, WorkerId, WorkerReport
from tests.scheduler.build import names, prompt, store_report, worker_report

TTL_S = 1.5

workers = st.builds(
    lambda index, role, store, running, waiting, queued, kv, free, draining, context: worker_report(
        f"w{index}",
        role,
        store=store,
        running=running,
        waiting=waiting,
        queued=queued,
        kv_tokens=kv,
        blocks_free=free,
        draining=draining,
        context=context,
    ),
    st.integers(0, 5),
    st.sampled_from(Role),
    st.sampled_from(["s", "t", None]),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 5000),
    st.integers(0, 9000),
    st.integers(0, 2000),
    st.booleans(),
    st.sampled_from([64, 512, 4096]),
)
asks = st.builds(
    lambda tokens, most, excluded: (tokens, most, frozenset(WorkerId(f"w{index}") for index in excluded)),
    st.integers(1, 2000),
    st.integers(1, 500),
    st.sets(st.integers(0, 5), max_size=3),
)
events = st.lists(
    st.one_of(
        st.tuples(st.just("worker"), workers),
        st.tuples(st.just("store"), st.sampled_from(["s", "t"])),
        st.tuples(st.just("ask"), asks),
        st.tuples(st.just("outcome"), st.sampled_from(Outcome)),
        st.tuples(st.just("wait"), st.floats(0, 1)),
    ),
    min_size=5,
    max_size=60,
)


class Model:
    """Who was heard when; nothing of costs."""

    def __init__(self, inline_max_tokens: int | None) -> None:
        self.conductor = Conductor(inline_max_tokens=inline_max_tokens, report_ttl_s=TTL_S)
        self.inline_max_tokens = inline_max_tokens
        self.now = 0.0
        self.count = 0
        self.workers: dict[WorkerId, tuple[WorkerReport, float]] = {}
        self.stores: dict[StoreId, float] = {}

    def hear(self, report: WorkerReport) -> None:
        self.count += 1
        report = replace(report, sequence=self.count)
        self.workers[report.worker] = (report, self.now)
        self.conductor.worker_reported(report, now=self.now)

    def hear_store(self, store: str) -> None:
        self.count += 1
        self.stores[StoreId(store)] = self.now
        report = store_report(store, sequence=self.count, snapshot=True, gained=names(prompt(500)))
        self.conductor.store_reported(report, now=self.now)

    def able(self, ask: Ask) -> dict[WorkerId, WorkerReport]:
        return {
            worker: report
            for worker, (report, heard) in self.workers.items()
            if self.now - heard <= TTL_S
            and not report.draining
            and worker not in ask.excluded
            and ask.tokens < report.max_model_len
        }

    def place(self, tokens: int, most: int, excluded: frozenset[WorkerId]) -> None:
        self.count += 1
        ask = Ask(RequestId(f"{self.count}"), names(prompt(tokens)), tokens, most, excluded)
        answer, able = self.conductor.place(ask, now=self.now), self.able(ask)
        decoders = {worker for worker, report in able.items() if report.role.decodes}
        match answer:
            case Rejection():
                assert not able
                assert answer.reason
            case Placement():
                self.check(answer, able, tokens)
                assert able[answer.decode.worker].role.decodes or not decoders

    def check(self, answer: Placement, able: dict[WorkerId, WorkerReport], tokens: int) -> None:
        decode = able[answer.decode.worker]
        assert answer.decode.address == decode.address
        assert 0 <= answer.predicted_cached_tokens < tokens
        assert answer.predicted_ttft_s > 0
        assert answer.predicted_tpot_s > 0
        handoffs = [
            (source, target)
            for source, one in able.items()
            for target, other in able.items()
            if one.role.prefills and other.role.decodes and source != target and one.store == other.store is not None
            if self.now - self.stores.get(other.store, -9.0) <= TTL_S
        ]
        if answer.prefill is not None:
            assert (answer.prefill.worker, answer.decode.worker) in handoffs
        elif self.inline_max_tokens == 0:
            assert not handoffs


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([None, 0, 64]), events)
def test_only_who_lives_and_can_do_it_is_asked_and_nobody_hands_over_to_itself(
    inline_max_tokens: int | None, story: list[tuple[str, object]]
) -> None:
    model = Model(inline_max_tokens)
    for event, fact in story:
        match fact:
            case WorkerReport():
                model.hear(fact)
            case str() if event == "store":
                model.hear_store(fact)
            case Outcome():
                model.conductor.outcome(RequestId(f"{model.count}"), fact, now=model.now)
            case float():
                model.now += fact
                model.conductor.tick(now=model.now)
            case (int() as tokens, int() as most, frozenset() as excluded):
                model.place(tokens, most, excluded)


@settings(max_examples=50, deadline=None)
@given(st.lists(workers, min_size=1, max_size=8), st.lists(asks, min_size=1, max_size=8))
def test_what_is_booked_and_ends_leaves_no_trace(
    reports: list[WorkerReport], wanted: list[tuple[int, int, object]]
) -> None:
    """Placed, and then cancelled, failed or finished: the next placement is as if nothing had been."""
    model = Model(None)
    model.hear_store("s")
    for report in reports:
        model.hear(report)

    def probe() -> object:
        answer = model.conductor.place(Ask(RequestId("probe"), names(prompt(700)), 700, 50), now=0)
        model.conductor.outcome(RequestId("probe"), Outcome.CANCELLED, now=0)
        return answer

    before = probe()
    for index, (tokens, most, _) in enumerate(wanted):
        model.conductor.place(Ask(RequestId(f"{index}"), names(prompt(tokens)), tokens, most), now=0)
    for index in range(len(wanted)):
        if index % 2:
            model.conductor.outcome(RequestId(f"{index}"), Outcome.HANDED_OVER, now=0)
        model.conductor.outcome(RequestId(f"{index}"), [Outcome.FINISHED, Outcome.FAILED][index % 2], now=0)
    assert probe() == before


@settings(max_examples=50, deadline=None)
@given(st.lists(workers, min_size=2, max_size=6), asks)
def test_the_order_of_reports_does_not_matter(
    reports: list[WorkerReport], wanted: tuple[int, int, frozenset[WorkerId]]
) -> None:
    last = {report.worker: report for report in reports}
    answers = []
    for order in (list(last.values()), list(reversed(last.values()))):
        model = Model(None)
        model.hear_store("s")
        for report in order:
            model.hear(report)
        tokens, most, excluded = wanted
        answers.append(model.conductor.place(Ask(RequestId("r"), names(prompt(tokens)), tokens, most, excluded), now=0))
    assert answers[0] == answers[1]
