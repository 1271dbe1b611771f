"""The longest prefix, whatever the queue: what simple proxies do. A hot prefix draws everything to one worker."""

from scheduler.forecast import Forecast
from scheduler.table import Floats


class LongestPrefix:
    fetches = False
    by_time = False

    def rank(self, forecast: Forecast) -> Floats:
        return -forecast.near_blocks.astype(float)
