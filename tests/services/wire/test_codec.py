"""What goes over the wire comes back equal, and what no correct sender makes is refused in a sentence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.digest import Digest
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from scheduler.predictions import Agreement
from scheduler.vocabulary import (
    Ask,
    Carried,
    Decision,
    Digests,
    Limits,
    Measured,
    Outcome,
    Placement,
    Priority,
    Profile,
    Promise,
    Rejection,
    RejectionCode,
    RequestId,
    Role,
    Sampling,
    StoreId,
    StoreReport,
    Target,
    Urgency,
    WorkerId,
    WorkerReport,
)
from services.wire import cluster_codec, codec, placement_codec, report_codec
from services.wire.errors import WireError
from services.wire.pb import common_pb2, conductor_pb2, store_pb2, worker_pb2

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.text("abcdef0123456789-", min_size=1, max_size=12)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
seconds = st.floats(0, 1e6)
names = st.lists(st.binary(min_size=16, max_size=16).map(BlockName), max_size=5).map(tuple)
identities = st.builds(Identity, texts, texts, texts, u32, texts, u32)
layouts = st.builds(
    KvLayout, st.integers(1, 512), st.lists(st.integers(1, 2**40), min_size=1, max_size=4).map(tuple), texts
)
penalties = st.floats(-2, 2)
samplings = st.builds(
    Sampling,
    seconds,
    u32,
    st.floats(0, 1, exclude_min=True),
    st.floats(0, 1),
    u64,
    st.floats(0, 1e6, exclude_min=True),
    penalties,
    penalties,
)
limits = st.builds(Limits, st.integers(1, 2**32 - 1), u32, st.frozensets(u32, max_size=4))
requests = ids.map(RequestId)
slos = st.none() | st.floats(1e-6, 1e6)
asks = st.builds(
    Ask,
    requests,
    names,
    u32,
    u32,
    st.frozensets(ids.map(WorkerId), max_size=3),
    slos,
    slos,
    st.sampled_from(Priority),
    texts,
    seconds,
    st.booleans(),
)
targets = st.builds(Target, ids.map(WorkerId), ids)
promised = st.just(math.inf) | st.floats(1e-6, 1e6)
placements = st.builds(
    Placement,
    requests,
    targets,
    st.none() | targets,
    seconds,
    seconds,
    u32,
    st.sampled_from(Decision),
    promise=st.builds(Promise, promised, promised),
)
urgencies = st.builds(Urgency, st.just(math.inf) | st.floats(-1e6, 1e6), promised, st.sampled_from(Priority), u32)
rejections = st.builds(
    Rejection, requests, st.sampled_from(RejectionCode), texts, seconds, st.none() | seconds, st.booleans()
)
profiles = st.builds(
    Profile, st.tuples(seconds, seconds, seconds), st.tuples(seconds, seconds, seconds), st.tuples(seconds, seconds)
)
worker_reports = st.builds(
    WorkerReport,
    worker=ids.map(WorkerId),
    incarnation=u64,
    sequence=u64,
    role=st.sampled_from(Role),
    address=ids,
    store=st.none() | ids.map(StoreId),
    pid=u32,
    identity=identities,
    profile=profiles,
    max_num_seqs=u32,
    max_model_len=u32,
    running=u32,
    waiting=u32,
    prefill_tokens_queued=u64,
    kv_tokens=u64,
    device_blocks_free=u32,
    device_blocks_total=u32,
    live=st.lists(requests, max_size=3).map(tuple),
    draining=st.booleans(),
    block_bytes=st.integers(0, 2**40),
    prefills_queued=u32,
    prefill_squares_queued=u64,
)
one_digest = st.builds(Digest, u64, u64)
store_reports = st.builds(
    StoreReport,
    store=ids.map(StoreId),
    incarnation=u64,
    sequence=u64,
    address=texts,
    pid=u32,
    identity=st.none() | identities,
    slots_total=u32,
    slots_free=u32,
    slots_writing=u32,
    slots_sealed=u32,
    leases=u32,
    snapshot=st.booleans(),
    gained=names,
    lost=names,
    sessions=st.lists(ids, max_size=3).map(tuple),
    digests=st.none() | st.builds(Digests, one_digest, one_digest),
    carried=st.lists(
        st.builds(Carried, st.none() | ids.map(StoreId), st.integers(1, 2**64 - 1), st.floats(1e-9, 1e6)), max_size=3
    ).map(tuple),
)
positive = st.floats(0, 1e6)
agreements = st.builds(Agreement, u64, st.none() | positive, st.none() | positive, positive)
clusters = st.builds(
    cluster_codec.Cluster,
    ids,
    u32,
    st.none() | identities,
    u64,
    st.lists(worker_reports, max_size=2).map(tuple),
    st.lists(store_reports, max_size=2).map(tuple),
    st.dictionaries(ids, u64, max_size=4),
    agreements,
    agreements,
    u64,
    u64,
)


@given(names)
def test_names_come_back(value: tuple[BlockName, ...]) -> None:
    assert codec.names_from_wire(codec.names_to_wire(value)) == value


@given(identities)
def test_an_identity_comes_back(value: Identity) -> None:
    assert codec.identity_from_wire(codec.identity_to_wire(value)) == value


@given(layouts)
def test_a_layout_comes_back(value: KvLayout) -> None:
    assert codec.layout_from_wire(codec.layout_to_wire(value)) == value


@given(samplings)
def test_sampling_comes_back(value: Sampling) -> None:
    assert codec.sampling_from_wire(codec.sampling_to_wire(value)) == value


@given(limits)
def test_limits_come_back(value: Limits) -> None:
    assert codec.limits_from_wire(codec.limits_to_wire(value)) == value


@given(asks)
def test_an_ask_comes_back(value: Ask) -> None:
    assert placement_codec.ask_from_wire(placement_codec.ask_to_wire(value)) == value


@given(placements | rejections)
def test_an_answer_comes_back(value: Placement | Rejection) -> None:
    assert placement_codec.answer_from_wire(placement_codec.answer_to_wire(value)) == value


@given(requests, st.sampled_from(Outcome))
def test_an_outcome_comes_back(request: RequestId, value: Outcome) -> None:
    assert placement_codec.outcome_from_wire(placement_codec.outcome_to_wire(request, value)) == (request, value)
    assert placement_codec.measured_from_wire(placement_codec.outcome_to_wire(request, value)) is None
    for measured in (Measured(0.5, None), Measured(None, 0.01), Measured(0.5, 0.01)):
        assert placement_codec.measured_from_wire(placement_codec.outcome_to_wire(request, value, measured)) == measured


@given(worker_reports)
def test_a_workers_report_comes_back(value: WorkerReport) -> None:
    assert report_codec.worker_report_from_wire(report_codec.worker_report_to_wire(value)) == value


@given(store_reports)
def test_a_stores_report_comes_back(value: StoreReport) -> None:
    assert report_codec.store_report_from_wire(report_codec.store_report_to_wire(value)) == value


@given(clusters)
def test_a_cluster_comes_back(value: cluster_codec.Cluster) -> None:
    assert cluster_codec.cluster_from_wire(cluster_codec.cluster_to_wire(value)) == value


def test_names_of_a_wrong_length_are_refused() -> None:
    with pytest.raises(WireError, match="16 bytes each"):
        codec.names_from_wire(b"short")


def test_a_sampling_without_penalties_has_none() -> None:
    assert codec.sampling_from_wire(common_pb2.Sampling(top_p=1)) == Sampling()


@pytest.mark.parametrize(
    ("sampling", "sentence"),
    [
        (common_pb2.Sampling(temperature=-1, top_p=1), "temperature"),
        (common_pb2.Sampling(temperature=math.nan, top_p=1), "temperature"),
        (common_pb2.Sampling(top_p=0), "top_p"),
        (common_pb2.Sampling(top_p=1, min_p=2), "min_p"),
        (common_pb2.Sampling(top_p=1, repetition_penalty=0), "repetition_penalty"),
        (common_pb2.Sampling(top_p=1, repetition_penalty=math.inf), "repetition_penalty"),
        (common_pb2.Sampling(top_p=1, presence_penalty=math.nan), "presence_penalty"),
        (common_pb2.Sampling(top_p=1, frequency_penalty=-math.inf), "frequency_penalty"),
    ],
)
def test_impossible_sampling_is_refused_by_name(sampling: common_pb2.Sampling, sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        codec.sampling_from_wire(sampling)


@pytest.mark.parametrize(("size_bytes", "took_s"), [(0, 1.0), (1, 0.0), (1, -1.0), (1, math.nan), (1, math.inf)])
def test_bytes_that_were_carried_in_no_time_are_refused(size_bytes: int, took_s: float) -> None:
    carried = conductor_pb2.Carried(source="store-1", size_bytes=size_bytes, seconds=took_s)

    with pytest.raises(WireError, match="more than 0 s to be carried"):
        report_codec.store_report_from_wire(conductor_pb2.StoreReport(store="store-0", carried=[carried]))


def test_what_is_missing_of_a_calls_time_out_has_passed_of_the_requests_time() -> None:
    ask = Ask(RequestId("a"), (), 10, 5, spent_s=0.25)

    def spent_s(within_s: float, left_s: float | None) -> float:
        wire = placement_codec.ask_to_wire(ask, within_s=within_s)
        return placement_codec.ask_from_wire(wire, left_s=left_s).spent_s

    assert spent_s(2.0, 1.5) == 0.75
    assert spent_s(2.0, 2.5) == 0.25  # clocks of two libraries
    assert spent_s(0.0, 1.5) == 0.25  # a gateway that does not tell
    assert spent_s(2.0, None) == 0.25


def test_a_message_without_what_it_must_have_is_refused() -> None:
    with pytest.raises(WireError, match="id"):
        placement_codec.ask_from_wire(conductor_pb2.Ask())
    with pytest.raises(WireError, match="id"):
        placement_codec.outcome_from_wire(conductor_pb2.OutcomeReport(outcome="finished"))
    with pytest.raises(WireError, match="outcome"):
        placement_codec.outcome_from_wire(conductor_pb2.OutcomeReport(request="a", outcome="lost in space"))
    with pytest.raises(WireError, match="0 s or more"):
        placement_codec.measured_from_wire(conductor_pb2.OutcomeReport(request="a", outcome="finished", ttft_s=-1.0))
    with pytest.raises(WireError, match="no priority is called 'urgent'"):
        placement_codec.ask_from_wire(conductor_pb2.Ask(request="a", priority="urgent"))
    with pytest.raises(WireError, match="more than 0 s, not 0"):
        placement_codec.ask_from_wire(conductor_pb2.Ask(request="a", ttft_slo_s=0.0))
    with pytest.raises(WireError, match="0 s or more, not -1"):
        placement_codec.ask_from_wire(conductor_pb2.Ask(request="a", spent_s=-1.0))
    with pytest.raises(WireError, match="placement"):
        placement_codec.answer_from_wire(conductor_pb2.PlaceAnswer(request="a"))
    with pytest.raises(WireError, match="worker"):
        placement_codec.answer_from_wire(conductor_pb2.PlaceAnswer(request="a", placement=conductor_pb2.Placement()))
    placed = conductor_pb2.Placement(decode=conductor_pb2.Target(worker="w", address="unix:w"))
    with pytest.raises(WireError, match="no decision is called ''"):
        placement_codec.answer_from_wire(conductor_pb2.PlaceAnswer(request="a", placement=placed))
    with pytest.raises(WireError, match="max_tokens"):
        codec.limits_from_wire(common_pb2.Limits())
    with pytest.raises(WireError, match="layer"):
        codec.layout_from_wire(store_pb2.Layout(block_tokens=64))
    with pytest.raises(WireError, match="identity"):
        report_codec.worker_report_from_wire(
            conductor_pb2.WorkerReport(worker="w", address="unix:w", role=common_pb2.ROLE_DECODE)
        )
    with pytest.raises(WireError, match="role"):
        report_codec.worker_report_from_wire(conductor_pb2.WorkerReport(worker="w", address="unix:w"))


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    assert codec.token_ids([0, 9], 10, "the prompt") == [0, 9]
    with pytest.raises(WireError, match="the prompt has token id 10"):
        codec.token_ids([3, 10], 10, "the prompt")


@given(urgencies)
def test_what_is_urgent_comes_back_equal(urgency: Urgency) -> None:
    assert codec.urgency_from_wire(codec.urgency_to_wire(urgency)) == urgency


def test_who_says_nothing_is_promised_nothing() -> None:
    assert codec.urgency_from_wire(worker_pb2.DecodeRequest().urgency) == Urgency()


@pytest.mark.parametrize(
    "wire",
    [
        worker_pb2.Urgency(ttft_left_s=math.nan),
        worker_pb2.Urgency(ttft_left_s=-math.inf),
        worker_pb2.Urgency(tpot_s=0.0),
        worker_pb2.Urgency(tpot_s=math.inf),
        worker_pb2.Urgency(priority="soon"),
    ],
)
def test_a_promise_that_is_no_time_is_refused(wire: worker_pb2.Urgency) -> None:
    with pytest.raises(WireError):
        codec.urgency_from_wire(wire)
