"""What a store can be told."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from kvstore.tcp_sides import split_address
from services.runtime.paths import default_data_dir
from services.runtime.settings import CalledSettings, NameList, ProcessId, Size


class StoreSettings(CalledSettings):
    """Own a host's arena of KV blocks and its SSD file: who may write which slot, and who reads it."""

    id: ProcessId = Field(default="store-0", pattern=r"^[\w.-]+$")
    """This process's name in logs, reports and status pages; {hostname} in it: this host's."""

    listen: str = "127.0.0.1:7200"
    """The gRPC target to serve at: unix:/path/to/name.sock or host:port."""

    conductor: NameList = ()
    """gRPC targets of the conductors to report to; unset: those of the registry, where there is one."""

    dram: Size = Field(default=1 << 30, ge=4096)
    """The arena, in shared memory; cut into slots once the first worker has told its layout."""

    arena_dir: Path = Path("/dev/shm")
    """Where the arena is made; memory, if it is to be fast."""

    ssd: Size = Field(default=0, ge=0)
    """How large the SSD file may get, which keeps blocks across restarts; 0: none."""

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where the SSD file is kept: DIR/ssd/ID.kv."""

    eviction: Literal["lru", "lfu", "length-aware"] = "lru"
    """Which block goes first where room is needed, in memory and on the SSD."""

    ssd_admit: Literal["all", "twice"] = "all"
    """What is written to the SSD: every block, or those that somebody asked for again, which spares the disk."""

    reuse: bool = True
    """Keep blocks after their hand-over, for prompts to come; off: hand over only, without an SSD, so that a prompt is
    found again on a worker's own device or not at all."""

    drain_s: float = Field(default=2.0, ge=0)
    """How long a store that is told to stop goes on writing to its SSD what is not there yet."""

    transfer_listen: str = "127.0.0.1:0"
    """HOST:PORT where other stores push blocks to and fetch them from; port 0: any free one."""

    transfer_address: str | None = None
    """HOST:PORT by which other stores reach it, where that is not what it listens at; port 0: the one it listens at.
    Unset where it listens at every address of the host: that of --advertise."""

    spill_to: str | None = None
    """ID@HOST:PORT of a store that lends its room (its --id and --transfer-listen): it gets a copy of every block
    sealed here, from which what was evicted is fetched back."""

    transfer_bytes_in_flight: Size = Field(default=1 << 30, ge=1)
    """Bytes of blocks that may be on their way here from one other store, and as many to it; more is refused."""

    transfer_bytes_in_flight_total: Size = Field(default=4 << 30, ge=1)
    """The same, of all other stores together."""

    @field_validator("transfer_listen", "transfer_address")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is not None:
            split_address(address)
        return address

    @field_validator("spill_to")
    @classmethod
    def _lender(cls, lender: str | None) -> str | None:
        if lender is not None:
            store, _, address = lender.partition("@")
            if not re.fullmatch(r"[\w.-]+", store) or not address:
                raise ValueError("has to be like lender@10.0.0.2:7201, a store's --id and --transfer-listen")
            split_address(address)
        return lender

    @field_validator("data_dir")
    @classmethod
    def _home(cls, path: Path) -> Path:
        """``~`` in a variable is not the shell's business."""
        return path.expanduser()
