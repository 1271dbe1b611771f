"""A cluster that has nothing cached yet, and many who ask about a few long texts."""

import numpy as np

from loadtest import profiles
from loadtest.offered import offered
from loadtest.settings import Offer
from loadtest.simulator.spec import Spec
from tests.loadtest.build import simulation


def mean_ttfts_s(policy: str) -> tuple[float, float]:
    """What came, and what was predicted: 25 requests a second, 50 texts of 16,000 tokens."""
    mix = Offer(
        workload="shared-prefix",
        requests=700,
        rate_per_s=25.0,
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


def test_a_text_is_computed_once_and_waited_for_where_that_is_quicker_for_all() -> None:
    kvcache_centric, predicted = mean_ttfts_s("kvcache-centric")

    assert kvcache_centric < mean_ttfts_s("longest-prefix")[0]
    assert kvcache_centric < 0.8 * mean_ttfts_s("local-cache")[0]
    assert abs(predicted / kvcache_centric - 1.0) < 0.1
