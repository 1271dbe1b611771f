"""The shortest queue, whatever is cached where: the papers' load balancing."""

from scheduler.forecast import Forecast
from scheduler.table import Floats


class LeastLoaded:
    fetches = False
    by_time = False

    def rank(self, forecast: Forecast) -> Floats:
        return forecast.wait_s
