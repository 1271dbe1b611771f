"""What a placement policy is: an order of the workers that could prefill a request."""

from typing import Protocol

from scheduler.forecast import Forecast
from scheduler.table import Floats


class Policy(Protocol):
    """fetches: prefixes may come from other stores. by_time: ranks are seconds, so that they may be weighed
    against the time of a hand-over; else the first in rank prefills, whoever decodes."""

    @property
    def fetches(self) -> bool: ...

    @property
    def by_time(self) -> bool: ...

    def rank(self, forecast: Forecast) -> Floats:
        """Of every worker; the least is best, and ties go to fewer sequences, then to the id."""
        ...
