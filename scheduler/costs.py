"""What the machines between the workers cost: their stores' links and disks, and the calls of a handoff."""

from dataclasses import dataclass

LINK_BYTES_PER_S = 3e9
"""Between the stores of two hosts, where nothing else is told: 25 Gbit/s Ethernet."""

SSD_BYTES_PER_S = 2.8e9
"""Reading blocks of 1 to 4 MB directly, measured on our reference machine."""

LINK_S = 0.001
"""What a push or a fetch takes besides its bytes: an offer and its answer, the last layer, the seal."""

HANDOFF_S = 0.002
"""What a handoff adds besides copying, Decode having been called before: the last blocks' seal and leases, the first
token's way through the gateway, and the wake-ups between them. Measured: 0.16 ms for a small gRPC call, and 2 to 3 ms
from the prefill worker to the decode worker on two busy cores."""

FETCH_GAIN = 0.1
"""A fetch is to save this share of the TTFT without it: estimates are no better, and a fetch loads two hosts."""


@dataclass(frozen=True, slots=True)
class Costs:
    """As told, until stores have measured it. link_s, ssd_s: for a byte from store to store, and from the SSD."""

    link_s: float = 1.0 / LINK_BYTES_PER_S
    ssd_s: float = 1.0 / SSD_BYTES_PER_S
