"""A cluster that has nothing cached yet, and many who ask about a few long texts."""

import numpy as np
import pytest

from loadtest import profiles
from loadtest.offered import offered
from loadtest.settings import Offer
from loadtest.simulator.spec import Spec
from tests.loadtest.build import simulation


def mean_ttfts_s(policy: str, *, requests: int = 700, rate_per_s: float = 25.0) -> tuple[float, float]:
    """What came, and what was predicted: so many requests a second, 50 texts of 16,000 tokens."""
    mix = Offer(
        workload="shared-prefix",
        requests=requests,
        rate_per_s=rate_per_s,
        input_len=100,
        output_len=50,
        prefix_len=16_000,
        prefixes=50,
        seed=1,
    )
    spec = Spec(profiles.load("a800x8-llama3-70b"), 8, 8)
    records = simulation(spec, policy=policy).run(offered(mix).requests)
    return (
        float(np.mean([each.ttft_s for each in records if each.ttft_s is not None])),
        float(np.mean([each.predicted_ttft_s for each in records if each.predicted_ttft_s is not None])),
    )


@pytest.mark.slow
def test_a_text_is_computed_once_and_waited_for_where_that_is_quicker_for_all() -> None:
    kvcache_centric, predicted = mean_ttfts_s("kvcache-centric")

    assert kvcache_centric < 0.9 * mean_ttfts_s("longest-prefix")[0]
    assert kvcache_centric < 0.8 * mean_ttfts_s("local-cache")[0]
    assert abs(predicted / kvcache_centric - 1.0) < 0.1


@pytest.mark.slow
def test_texts_that_many_ask_about_are_not_queued_behind_texts_that_are_computed_first() -> None:
    """More is asked for than there is, so all queues are long: a text is computed where few questions come. Who counts
    an even share of them for each worker has 5.0 s here."""
    kvcache_centric, _ = mean_ttfts_s("kvcache-centric", requests=1500, rate_per_s=60.0)

    assert kvcache_centric < 4.5
    assert kvcache_centric < mean_ttfts_s("longest-prefix", requests=1500, rate_per_s=60.0)[0]
