"""What a conductor shows of its beliefs to Prometheus."""

import pytest
from prometheus_client import CollectorRegistry

from scheduler.conductor import Conductor
from scheduler.vocabulary import Measured, Outcome, Placement, RequestId, Role
from services.conductor.metrics import ConductorCollector
from tests.scheduler.build import ask, worker_report


def shown(conductor: Conductor) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ConductorCollector(conductor))
    return registry


def test_a_role_without_workers_is_shown_as_none_since_an_alert_cannot_see_what_is_missing() -> None:
    conductor = Conductor()
    conductor.worker_reported(worker_report("d", role=Role.DECODE), now=0.0)
    registry = shown(conductor)
    live = {role: registry.get_sample_value("moonpool_workers", {"role": role}) for role in Role}
    assert live == {Role.PREFILL: 0, Role.DECODE: 1, Role.MIXED: 0}


def test_predictions_are_shown_against_what_was_measured_once_something_was() -> None:
    conductor = Conductor()
    conductor.worker_reported(worker_report("m", role=Role.MIXED), now=0.0)
    registry = shown(conductor)
    assert registry.get_sample_value("moonpool_prediction_ratio", {"slo": "ttft"}) is None
    placement = conductor.place(ask("a", 640), now=0.0)
    assert isinstance(placement, Placement)
    conductor.outcome(RequestId("a"), Outcome.FINISHED, now=1.0, measured=Measured(ttft_s=2.0))
    assert (
        registry.get_sample_value("moonpool_prediction_bound", {"slo": "ttft"})
        == conductor.snapshot().accuracy.ttft.bound
    )
    kept = conductor.snapshot().accuracy.ttft.ratio
    assert kept is not None
    assert registry.get_sample_value("moonpool_prediction_ratio", {"slo": "ttft"}) == pytest.approx(kept)
    assert registry.get_sample_value("moonpool_prediction_ratio", {"slo": "tpot"}) is None, "nothing was measured of it"
    assert placement.predicted_ttft_s * kept == pytest.approx(2.0)
