"""What ``moonpool up`` can be told. What a child also understands is passed on to it."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from services.models.embedded import EMBEDDED_MODEL
from services.runtime.paths import default_data_dir
from services.runtime.settings import NameList, ProcessSettings, Size


class UpSettings(ProcessSettings):
    """Run a whole deployment on this machine under one supervisor, until Ctrl-C."""

    model: str = EMBEDDED_MODEL
    """The model to serve: a directory, a .gguf file, a Hugging Face name, or the embedded one."""

    prefill: int = Field(default=1, ge=0)
    """Prefill workers; with none, decode workers prefill for themselves."""

    decode: int = Field(default=1, ge=1)
    """Decode workers."""

    hosts: int = Field(default=1, ge=1)
    """Stores, each as if on a host of its own: prefill workers use the first half of them, decode workers the rest."""

    engine: Literal["torch", "toy"] = "torch"
    """What computes; toy has no model, and tokens that are a checksum of the KV they were given."""

    host: str = "127.0.0.1"
    """Where the gateway listens."""

    port: int = Field(default=8000, ge=1, le=65535)
    """The gateway's port; deployments on different ports live side by side."""

    allowed_hosts: NameList = ()
    """Further names by which clients may call (the Host header); * stands for any text. Addresses and names of this
    machine may always be called. Unset: on a loopback address no others, elsewhere any."""

    allowed_origins: NameList = ()
    """Further pages that may call (the Origin header), such as https://chat.example.com; * stands for any text. Unset:
    on a loopback address only pages of this machine may, elsewhere any."""

    dram: Size | None = Field(default=None, ge=1)
    """Each store's arena, in shared memory; unset: a quarter of what is free there, shared out, 4GiB at most."""

    ssd: Size | None = Field(default=None, ge=0)
    """Each store's SSD file, under the data directory; 0: none; unset: a quarter of what is free there, shared out,
    8GiB at most."""

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where models and SSD files are kept, and whatever else must outlive a process."""

    arena_dir: Path = Path("/dev/shm")
    """Where the arena is made; memory, if it is to be fast."""

    eviction: Literal["lru", "lfu", "length-aware"] | None = None
    """Which block goes first where a store needs room; unset: the store's default."""

    ssd_admit: Literal["all", "twice"] | None = None
    """What stores write to their SSD: every block, or those that were asked for again; unset: the store's default."""

    reuse: bool = True
    """Keep blocks in the stores after their hand-over, for prompts to come; off: what prompts share is found again on
    the workers' own devices only."""

    transfer_listen: str | None = None
    """HOST:PORT where stores take and give blocks; with several hosts port 0, any free one; unset: on the loopback."""

    inline_max_tokens: int | None = Field(default=None, ge=0)
    """Decode workers prefill up to this many uncached tokens themselves; 0: always hand over; unset: by cost."""

    admission: Literal["off", "queue", "baseline", "early", "predictive"] | None = None
    """Refuse what would be later than promised, and how that is told; unset: nothing is."""

    slo_ttft_s: float | None = Field(default=None, gt=0)
    """Seconds to the first token that admission promises; unset: none."""

    slo_tpot_s: float | None = Field(default=None, gt=0)
    """Seconds per output token that admission promises; unset: none."""

    elastic: bool = False
    """Turn prefill workers into decode workers and back where one role is short and the other has plenty."""

    served_model_name: str | None = None
    """The name that clients use; unset: the model's own."""

    max_model_len: int | None = Field(default=None, ge=1)
    """The longest sequence in tokens, prompt and output; unset: the model's own."""

    max_num_seqs: int | None = Field(default=None, ge=1)
    """The most sequences in one worker's batch; unset: the worker's default."""

    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    """The most tokens computed in one step; unset: the worker's default."""

    kv_cache_bytes: Size | None = Field(default=None, ge=1)
    """Device memory for KV blocks in each worker; unset: the worker's default."""

    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """What weights, KV and arithmetic are in; auto: the model's own."""

    threads: int | None = Field(default=None, ge=1)
    """Threads that each worker computes with; unset: the cores shared out evenly."""

    hang_s: float = Field(default=10.0, ge=0)
    """Kill a process, and start it again, that gave no sign of life for so many seconds; 0: never, for a debugger."""

    dev_endpoints: bool = False
    """Also serve endpoints for development, such as POST /reset_prefix_cache."""

    @field_validator("data_dir", "arena_dir", "tls_cert", "tls_key", "tls_ca")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Children may have another working directory, and ``~`` in a variable is not the shell's business."""
        return None if path is None else path.expanduser().absolute()
