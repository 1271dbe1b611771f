"""What a simulated cluster is to be: how many workers on what machine, with what stores, and how they work."""

from dataclasses import dataclass
from math import inf

from loadtest.simulator.disturbed import Disturbed
from loadtest.simulator.machine import Machine
from scheduler.progress import BatchLimits
from scheduler.vocabulary import Role, StoreId

REPORT_S = 0.1
"""The live services' interval."""

STEP_S = 0.25
"""The longest step that has prefill in it; the live worker's bound."""

SILENCE_S = 1.0
"""The longest that a host says nothing, though nobody asks: the conductor believes it dead after 1.5 s."""


@dataclass(frozen=True, slots=True)
class Coupled:
    """What a coupled node does: find prompts on its own device again, cut prompts into chunks beside decodes."""

    prefix_cache: bool = True
    chunked_prefill: bool = True


@dataclass(frozen=True, slots=True)
class Spec:
    """A cluster. dram_bytes: of each host's store, None for the machine's; ssd_bytes: 0 for none.

    prefill_seats: sequences that a prefill worker admits at a time. Whoever is admitted looks for its prefix then, and
    holds slots for its hand-over from then on; so with many seats and a long queue both happen too early.
    coupled: every mixed worker for itself, as engines without a shared cache are; None: with stores.
    coasting: see ``CoastingBatcher``. report_s: how often hosts report.
    enforced: workers are told what was promised, and order their queues by it.
    hosts: how many stores the workers share, as those of ``moonpool up --hosts`` do; None: each has its own.
    disturbed: how far engines are from their profiles; None: not at all, and nobody corrects them.
    calls_s: a call from a gateway to a conductor or a worker takes up to this long, drawn evenly, as when many requests
    come at once.
    slow_links: bytes per second of stores whose links carry less than the machine's.
    """

    machine: Machine
    prefill: int
    decode: int
    mixed: int = 0
    block_tokens: int = 512
    dram_bytes: int | None = None
    ssd_bytes: int = 0
    eviction: str = "lru"
    max_num_seqs: int = 256
    prefill_seats: int = 8
    max_num_batched_tokens: int = 8192
    max_waiting: int = 1_000_000
    max_new_tokens: int = 2048
    coupled: Coupled | None = None
    coasting: bool = True
    report_s: float = REPORT_S
    enforced: bool = True
    hosts: int | None = None
    disturbed: Disturbed | None = None
    calls_s: float = 0.0
    slow_links: tuple[tuple[StoreId, float], ...] = ()

    def __post_init__(self) -> None:
        if self.decode + self.mixed < 1:
            raise ValueError("a cluster needs a worker that decodes")
        if self.coupled is not None and (self.prefill or self.decode):
            raise ValueError("coupled workers are mixed ones; nobody could hand over to them")
        if min(self.prefill, self.decode, self.mixed) < 0:
            raise ValueError("there can't be fewer than 0 workers")
        if self.block_tokens < 1 or self.block_tokens > self.machine.device_tokens:
            raise ValueError(
                f"the device has room for {self.machine.device_tokens} tokens: no block of {self.block_tokens}"
            )
        if self.hosts is not None and self.hosts < 1:
            raise ValueError("there can't be fewer than 1 hosts")
        if not 0.0 < self.report_s <= SILENCE_S:
            raise ValueError(
                f"hosts report more than every {SILENCE_S} s, or are believed dead; not every {self.report_s}"
            )
        if self.block_bytes > self.store_bytes:
            raise ValueError(f"a store of {self.store_bytes} bytes has no room for a block of {self.block_bytes}")

    @property
    def block_bytes(self) -> int:
        return self.block_tokens * self.machine.kv_bytes

    @property
    def store_bytes(self) -> int:
        return self.machine.dram_bytes if self.dram_bytes is None else self.dram_bytes

    def home(self, role: Role, place: int) -> StoreId:
        """Of a role's worker in that place: its own store, or its host's."""
        if self.hosts is None:
            return StoreId(f"store of {role} {place}")
        return StoreId(f"store {self._host(self.hosts, role, place)}")

    def _host(self, hosts: int, role: Role, place: int) -> int:
        """Prefill workers on the first half of the hosts, decode workers on the others, mixed ones everywhere."""
        first = (hosts + 1) // 2
        if role is Role.MIXED or hosts == 1 or not self.prefill:
            return place % hosts
        return place % first if role is Role.PREFILL else first + place % (hosts - first)

    def limits(self, role: Role) -> BatchLimits:
        """Without chunks a prompt is computed in one step, however long, and whoever decodes waits for it."""
        tokens, step_s = self.max_num_batched_tokens, STEP_S
        if self.coupled is not None and not self.coupled.chunked_prefill:
            tokens, step_s = self.machine.max_model_len, inf
        seats = self.prefill_seats if role is Role.PREFILL else self.max_num_seqs
        return BatchLimits(seats, tokens, self.machine.max_model_len, self.max_waiting, step_s)
