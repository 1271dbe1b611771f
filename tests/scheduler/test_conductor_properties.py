"""What holds for every placement, whatever was reported before it and in whatever order."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.conductor import Conductor
from scheduler.demand import Demand
from scheduler.policies import POLICIES
from scheduler.vocabulary import (
    Ask,
    Outcome,
    Placement,
    Rejection,
    RequestId,
    Role,
    StoreId,
    StoreReport,
    StoreTarget,
    WorkerId,
    WorkerReport,
)
from tests.scheduler.build import SIZE, names, prompt, store_report, worker_report

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
stores = st.builds(
    lambda store, transfer, held, ssd: store_report(
        store, snapshot=True, transfer=transfer, gained=names(prompt(held)), ssd_gained=names(prompt(ssd))
    ),
    st.sampled_from(["s", "t", "u"]),
    st.booleans(),
    st.sampled_from([0, 100, 500, 1500]),
    st.sampled_from([0, 800]),
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
        st.tuples(st.just("store"), stores),
        st.tuples(st.just("ask"), asks),
        st.tuples(st.just("outcome"), st.sampled_from(Outcome)),
        st.tuples(st.just("wait"), st.tuples(st.floats(0, 2), st.booleans())),
    ),
    min_size=5,
    max_size=60,
)


class Model:
    """Who was heard when; nothing of costs."""

    def __init__(self, inline_max_tokens: int | None, *, policy: str = "kvcache-centric") -> None:
        self.conductor = Conductor(inline_max_tokens=inline_max_tokens, report_ttl_s=TTL_S, policy=policy, seed=7)
        self.answers: list[Placement | Rejection] = []
        self.inline_max_tokens = inline_max_tokens
        self.now = 0.0
        self.count = 0
        self.workers: dict[WorkerId, tuple[WorkerReport, float]] = {}
        self.stores: dict[StoreId, tuple[StoreReport, float]] = {}

    def hear(self, report: WorkerReport) -> None:
        self.count += 1
        report = replace(report, sequence=self.count)
        self.workers[report.worker] = (report, self.now)
        self.conductor.worker_reported(report, now=self.now)

    def hear_store(self, report: StoreReport) -> None:
        self.count += 1
        report = replace(report, sequence=self.count)
        self.stores[report.store] = (report, self.now)
        self.conductor.store_reported(report, now=self.now)

    def alive(self, store: StoreId | None) -> bool:
        return store in self.stores and self.now - self.stores[store][1] <= TTL_S

    def reachable(self, store: StoreId | None) -> StoreTarget | None:
        if store is None or not self.alive(store) or not self.stores[store][0].transfer_address:
            return None
        return StoreTarget(store, self.stores[store][0].transfer_address)

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
        self.answers.append(answer)
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
            if one.role.prefills and other.role.decodes and source != target
            if (one.store == other.store and self.alive(one.store))
            or (self.reachable(one.store) is not None and self.reachable(other.store) is not None)
        ]
        for place in (answer.decode, answer.prefill):
            assert place is None or place.store == self.reachable(able[place.worker].store)
        if answer.source is not None:
            computes = able[(answer.prefill or answer.decode).worker]
            assert answer.source == self.reachable(answer.source.store)
            assert answer.source.store != computes.store
            assert self.alive(computes.store)
        if answer.prefill is not None:
            assert (answer.prefill.worker, answer.decode.worker) in handoffs
        elif self.inline_max_tokens == 0:
            assert not handoffs


@settings(max_examples=150)
@given(st.sampled_from([None, 0, 64]), st.sampled_from(POLICIES), events)
def test_only_who_lives_and_can_do_it_is_asked_and_nobody_hands_over_to_itself(
    inline_max_tokens: int | None, policy: str, story: list[tuple[str, object]]
) -> None:
    """And the same story is told again with the same answers."""
    assert told(story, Model(inline_max_tokens, policy=policy)) == told(story, Model(inline_max_tokens, policy=policy))


@settings(max_examples=20)
@given(workers)
def test_who_fell_silent_is_not_asked_before_the_next_tick_either(report: WorkerReport) -> None:
    model = Model(None)
    model.hear(replace(report, draining=False))
    model.place(10, 10, frozenset())
    model.now += 2 * TTL_S
    model.place(10, 10, frozenset())

    assert [type(answer) for answer in model.answers] == [Placement, Rejection]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(POLICIES), st.sampled_from(["far", "near", "alone"]), st.integers(1, 150), st.integers(0, 150))
def test_nothing_of_a_store_that_fell_silent_is_believed_before_the_next_tick_either(
    policy: str, where: str, blocks: int, more: int
) -> None:
    """It is no source, its prefix counts nowhere, no hand-over goes by it: all is as if it had never been heard."""
    dead, other = "s", "t"
    reports = {
        "far": [worker_report("p", Role.PREFILL, store=other), worker_report("d", Role.DECODE, store=other)],
        "near": [worker_report("p", Role.PREFILL, store=dead), worker_report("d", Role.DECODE, store=other)],
        "alone": [worker_report("d", Role.DECODE, store=dead)],
    }[where]
    model, without = (Model(0, policy=policy) for _ in range(2))
    model.hear_store(store_report(dead, snapshot=True, transfer=True, gained=names(prompt(blocks * SIZE))))
    for each in (model, without):
        each.now += 2 * TTL_S
        each.hear_store(store_report(other, snapshot=True, transfer=True))
        for report in reports:
            each.hear(report)
        each.place(blocks * SIZE + more + 1, 10, frozenset())

    answer, expected = model.answers[0], without.answers[0]
    assert isinstance(answer, Placement)
    assert isinstance(expected, Placement)
    assert (answer.source, answer.predicted_cached_tokens) == (None, 0)
    assert (answer.prefill is not None) == (where == "far")
    assert replace(answer, request=expected.request) == expected


def told(story: list[tuple[str, object]], model: Model) -> list[Placement | Rejection]:
    for _, fact in story:
        match fact:
            case WorkerReport():
                model.hear(fact)
            case StoreReport():
                model.hear_store(fact)
            case Outcome():
                model.conductor.outcome(RequestId(f"{model.count}"), fact, now=model.now)
            case (float() as seconds, bool() as ticks):  # who died must not be asked before the next tick either
                model.now += seconds
                if ticks:
                    model.conductor.tick(now=model.now)
            case (int() as tokens, int() as most, frozenset() as excluded):
                model.place(tokens, most, excluded)
    return model.answers


@settings(max_examples=50)
@given(st.lists(workers, min_size=1, max_size=8), st.lists(asks, min_size=1, max_size=8))
def test_what_is_booked_and_ends_leaves_no_trace(
    reports: list[WorkerReport], wanted: list[tuple[int, int, object]]
) -> None:
    """Placed, and then cancelled, failed or finished: the next placement is as if nothing had been."""
    model = Model(None)
    model.hear_store(store_report("s", snapshot=True, gained=names(prompt(500))))
    for report in reports:
        model.hear(report)

    def probe() -> object:
        model.conductor._demand = Demand()  # that somebody asked is remembered, though nothing is booked any more
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


@settings(max_examples=50)
@given(st.lists(workers, min_size=2, max_size=6), asks)
def test_the_order_of_reports_does_not_matter(
    reports: list[WorkerReport], wanted: tuple[int, int, frozenset[WorkerId]]
) -> None:
    last = {report.worker: report for report in reports}
    answers = []
    for order in (list(last.values()), list(reversed(last.values()))):
        model = Model(None)
        model.hear_store(store_report("s", snapshot=True, gained=names(prompt(500))))
        for report in order:
            model.hear(report)
        tokens, most, excluded = wanted
        answers.append(model.conductor.place(Ask(RequestId("r"), names(prompt(tokens)), tokens, most, excluded), now=0))
    assert answers[0] == answers[1]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 400)), min_size=1, max_size=5),
    st.lists(st.integers(1, 600), min_size=1, max_size=30),
)
def test_no_worker_is_promised_more_seats_or_blocks_than_it_has_while_another_has_room(
    sizes: list[tuple[int, int]], wanted: list[int]
) -> None:
    """What is booked and not reported yet counts, so a burst is spread before anybody has reported."""
    conductor = Conductor()
    seats = {WorkerId(f"d{number}"): size[0] for number, size in enumerate(sizes)}
    blocks = {WorkerId(f"d{number}"): size[1] for number, size in enumerate(sizes)}
    for number, (most, free) in enumerate(sizes):
        conductor.worker_reported(worker_report(f"d{number}", Role.DECODE, seats=most, blocks_free=free), now=0)
    conductor.worker_reported(worker_report("p", Role.PREFILL), now=0)
    conductor.store_reported(store_report(snapshot=True), now=0)
    for number, tokens in enumerate(wanted):
        needed = -(-(tokens + 1) // SIZE)
        roomy = [each for each in seats if seats[each] >= 1 and blocks[each] >= needed]
        answer = conductor.place(Ask(RequestId(f"{number}"), names(prompt(tokens)), tokens, 50), now=0)
        assert isinstance(answer, Placement)
        chosen = answer.decode.worker
        assert chosen in roomy or not roomy
        seats[chosen] -= 1
        blocks[chosen] -= needed


@settings(max_examples=60)
@given(st.integers(0, 9000), st.integers(0, 9), st.integers(1, 1500), st.integers(0, 1500), st.integers(0, 900))
def test_predictions_are_above_0_and_a_longer_prompt_is_never_predicted_to_be_quicker(
    queued: int, running: int, tokens: int, more: int, held: int
) -> None:
    """Where both find the same beginning."""

    def predicted(tokens: int) -> tuple[float, float]:
        conductor = Conductor(inline_max_tokens=0)
        conductor.worker_reported(worker_report("p", Role.PREFILL, queued=queued, waiting=1 if queued else 0), now=0)
        busy = worker_report("d", Role.DECODE, running=running, kv_tokens=100 * running, seats=64)
        conductor.worker_reported(busy, now=0)
        conductor.store_reported(store_report(snapshot=True, gained=names(prompt(held))), now=0)
        answer = conductor.place(Ask(RequestId("r"), names(prompt(tokens)), tokens, 50), now=0)
        assert isinstance(answer, Placement)
        return answer.predicted_ttft_s, answer.predicted_tpot_s

    (ttft_s, tpot_s), (longer_ttft_s, longer_tpot_s) = predicted(tokens), predicted(tokens + more)
    assert ttft_s > 0.0
    assert 0.0 < tpot_s <= longer_tpot_s
    if tokens > held:  # else more of the same beginning may be found: what computes the last token begins at a block
        assert ttft_s <= longer_ttft_s
