"""When a gateway says that it reaches no conductor."""

from pathlib import Path

import pytest

from services.gateway.conductors import Conductors, described
from services.gateway.reach import AWAY_S, Reach
from services.wire.errors import PeerUnavailable


def test_it_is_said_once_when_it_lasts_and_once_when_it_is_over() -> None:
    reach = Reach()
    assert not reach.missed(now=10.0)
    assert not reach.missed(now=10.0 + AWAY_S / 2)
    assert reach.missed(now=10.0 + AWAY_S)
    assert not reach.missed(now=10.0 + 100 * AWAY_S)
    assert reach.answered(now=310.0) == 300.0
    assert reach.answered(now=311.0) is None


def test_what_is_over_soon_is_not_said_and_the_next_time_counts_anew() -> None:
    reach = Reach()
    assert not reach.missed(now=0.0)
    assert reach.answered(now=1.0) is None
    assert not reach.missed(now=AWAY_S + 1.0)
    assert reach.missed(now=2 * AWAY_S + 1.0)


async def test_a_gateway_without_a_conductor_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.reach.AWAY_S", 0.0)
    conductors = Conductors([f"unix:{tmp_path}/none.sock"])
    for _ in range(3):
        with pytest.raises(PeerUnavailable):
            await conductors.first(described)
    await conductors.close()
    assert caplog.messages == ["no conductor answers: requests are refused until one does"]
