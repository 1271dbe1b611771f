"""How much of the cluster each tenant has had lately, against an even share.

Seconds of predicted work, halved every ``HALF_LIFE_S``. Tenants that ask for less than an even share leave the
rest to the others; only while the cluster is full does having had more than that tighten a tenant's limit.
"""

from math import exp, log

HALF_LIFE_S = 60.0
"""Long enough that one long prompt is no offence, short enough that a burst is forgiven."""

NEGLIGIBLE_S = 1e-3
"""A tenant that had less than this is forgotten."""


class Shares:
    """Work by tenant."""

    def __init__(self) -> None:
        self._work_s: dict[str, float] = {}
        self._since = 0.0

    def had(self, tenant: str, work_s: float, *, now: float) -> None:
        self._decay(now)
        self._work_s[tenant] = self._work_s.get(tenant, 0.0) + work_s

    def excess(self, tenant: str, *, now: float) -> float:
        """What it has had over an even share of what all had: 1 is fair, 0 nothing yet; 1 for whoever is alone."""
        self._decay(now)
        work_s = self._work_s
        if not work_s or set(work_s) == {tenant}:
            return 1.0
        tenants = len(work_s) + (tenant not in work_s)
        return work_s.get(tenant, 0.0) * tenants / sum(work_s.values())

    def _decay(self, now: float) -> None:
        kept = exp(-log(2.0) * max(0.0, now - self._since) / HALF_LIFE_S)
        self._since = max(now, self._since)
        if kept < 1.0:
            self._work_s = {tenant: left for tenant, had in self._work_s.items() if (left := kept * had) > NEGLIGIBLE_S}
