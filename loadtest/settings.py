"""All that a run is told, as one value: what is offered, how, to whom, and what counts as good.

Commands make it from flags; whoever runs several of them (a sweep, a comparison) replaces a field and runs again.
"""

from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from loadtest.metrics import Slo
from loadtest.trace_file import TraceFile
from loadtest.workload.ramps import Ramp

WORKLOADS = ("random", "chats", "swarm", "shared-prefix", "trace")
ENDPOINTS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
DEFAULT_REQUESTS = 1000
"""Where neither a number nor a duration is given; ``vllm bench serve``'s."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A workload and its arrivals. rate_per_s: of requests; of whole chats or swarms where they are that.

    requests None: what fits in the duration; of a trace, all. duration_s None: until all are asked. Lengths in tokens;
    what a field means to each workload is told with its flag.
    """

    workload: str = "random"
    requests: int | None = None
    duration_s: float | None = None
    rate_per_s: float = inf
    burstiness: float = 1.0
    ramp: Ramp | None = None
    max_concurrency: int | None = None
    input_len: int = 1024
    output_len: int = 128
    range_ratio: float = 0.0
    prefix_len: int = 512
    prefixes: int = 20
    skew: float = 1.0
    turns: int = 5
    branches: int = 8
    think_s: float = 1.0
    trace: TraceFile = field(default_factory=TraceFile)
    speed: float = 1.0
    length_scale: float = 1.0
    longest: int | None = None
    """Leave out requests whose prompt and answer are more tokens than this together."""

    cancel_share: float = 0.0
    warmups: int = 0
    seed: int = 0

    @property
    def paced(self) -> bool:
        """Requests have times to be sent at; else all are sent at once, or as seats allow."""
        return self.rate_per_s < inf or self.ramp is not None or self.workload == "trace"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and how it is asked. key: never written anywhere. slo_*_ms: sent as headers, where asked for."""

    url: str = "http://127.0.0.1:8000"
    endpoint: str = "completions"
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    tokenizer: Path | None = None
    timeout_s: float = 600.0
    ignore_eos: bool = True
    temperature: float | None = 0.0
    token_counts: bool = False
    """Ask the server to say in every chunk how many tokens there are so far."""

    slo_ttft_ms: float | None = None
    slo_tpot_ms: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    extra_body: str = "{}"
    block_tokens: int | None = None
    reset_cache: bool = False


@dataclass(frozen=True, slots=True)
class Simulated:
    """A cluster in virtual time: ``moonpool simulate``'s flags, as they were given."""

    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSettings:
    """One run. label: a word of the user's, for plots."""

    offer: Offer = Offer()
    target: Endpoint | Simulated = Endpoint()
    slos: tuple[Slo, ...] = ()
    label: str | None = None

    def described(self) -> dict[str, Any]:  # Any: JSON
        """For the result. Keys and headers, which may hold keys, are left out."""
        target = asdict(self.target)
        for secret in ("key", "headers"):
            target.pop(secret, None)
        kind = "simulator" if isinstance(self.target, Simulated) else "server"
        offer = asdict(self.offer)
        file = offer.pop("trace")
        traced = {"trace": file["path"], "trace_time_unit": file["unit"], "trace_block_tokens": file["block_tokens"]}
        whole = {"target": kind, **target, **offer, **traced, "goodput": [str(slo) for slo in self.slos]}
        return {name: _plain(value) for name, value in whole.items()}


def _plain(value: Any) -> Any:  # Any: JSON
    if isinstance(value, Path):
        return str(value)
    return "inf" if value == inf else value
