"""Algorithm 1 of Mooncake (arXiv 2407.00079, section 6), prefixes fetched where that is quicker: the least TTFT, and
the least delay of others.

By its own TTFT alone each request takes the idle worker that computes its prefix once more over the holder with a
queue, and whoever comes next waits for that (``scheduler.demand``).
"""

from scheduler.forecast import Forecast
from scheduler.table import Floats


class KvCacheCentric:
    fetches = True
    by_time = True

    def rank(self, forecast: Forecast) -> Floats:
        return forecast.ttft_s + forecast.others_s
