"""Algorithm 1 of Mooncake (arXiv 2407.00079, section 6): the least TTFT, prefixes fetched where that is quicker."""

from scheduler.forecast import Forecast
from scheduler.table import Floats


class KvCacheCentric:
    fetches = True
    by_time = True

    def rank(self, forecast: Forecast) -> Floats:
        return forecast.ttft_s
