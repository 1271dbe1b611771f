"""What a conductor can be told."""

from typing import Literal

from pydantic import Field

from services.runtime.settings import CalledSettings, ProcessId, Size


class ConductorSettings(CalledSettings):
    """Hold beliefs about the cluster and answer where each request prefills and decodes."""

    id: ProcessId = Field(default="conductor-0", pattern=r"^[\w.-]+$")
    """This process's name in logs and status pages; {hostname} in it: this host's."""

    listen: str = "127.0.0.1:7100"
    """The gRPC target to serve at: unix:/path/to/name.sock or host:port."""

    inline_max_tokens: int | None = Field(default=None, ge=0)
    """Decode workers prefill up to this many uncached tokens themselves; 0: always hand over; unset: by cost."""

    policy: Literal["kvcache-centric", "local-cache", "least-loaded", "longest-prefix", "random"] = "kvcache-centric"
    """How prefill workers are chosen: by predicted TTFT, with or without prefixes of other stores, or by less."""

    link_rate: Size | None = Field(default=None, gt=0)
    """Bytes per second between two hosts' stores until they have measured it; unset: 3 GB/s (25 Gbit/s Ethernet)."""

    admission: Literal["off", "queue", "baseline", "early", "predictive"] = "off"
    """Refuse what would be later than promised: looking at the prefill pool, at both pools, or at both as predicted."""

    slo_ttft_s: float | None = Field(default=None, gt=0)
    """Seconds to the first token that admission promises; unset: none."""

    slo_tpot_s: float | None = Field(default=None, gt=0)
    """Seconds per output token that admission promises; unset: none."""

    elastic: bool = False
    """Turn prefill workers into decode workers and back where one role is short and the other has plenty."""

    replicate: bool = True
    """Tell stores to fetch prefixes that many ask for, before anybody waits for them."""
