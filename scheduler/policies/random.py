"""Any worker: what everything else is compared with."""

from typing import TYPE_CHECKING

import numpy as np

from scheduler.forecast import Forecast
from scheduler.table import Floats

if TYPE_CHECKING:
    from random import Random


class RandomChoice:
    fetches = False
    by_time = False

    def __init__(self, rng: "Random") -> None:
        self._rng = rng

    def rank(self, forecast: Forecast) -> Floats:
        """By id, so that a seed gives the same choices in whatever order workers came."""
        drawn = np.array([self._rng.random() for _ in range(len(forecast.ranks))])
        return drawn[forecast.ranks]
