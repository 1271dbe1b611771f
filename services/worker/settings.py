"""What a worker can be told."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from scheduler.vocabulary import Role
from services.models.embedded import EMBEDDED_MODEL
from services.runtime.paths import default_data_dir
from services.runtime.settings import CalledSettings, NameList, ProcessId, Size


class WorkerSettings(CalledSettings):
    """Run a model: prefill prompts for others to decode, decode streams, or both."""

    id: ProcessId = Field(default="worker-0", pattern=r"^[\w.-]+$")
    """This process's name in logs, reports and status pages; no two live workers share one; {hostname} in it: this
    host's."""

    role: Role = Role.MIXED
    """What the worker is asked for: prefill (hands over), decode (prefills inline what is short), or mixed."""

    listen: str = "127.0.0.1:7300"
    """The gRPC target to serve at: unix:/path/to/name.sock or host:port."""

    store: str | None = None
    """The gRPC target of this host's store; unset: the one that the registry has of this host. Without any the worker
    serves alone, and nothing outlives it."""

    conductor: NameList = ()
    """gRPC targets of the conductors to report to; unset: those of the registry, where there is one."""

    model: str = EMBEDDED_MODEL
    """The model to run: a directory, a .gguf file, a Hugging Face name, or the embedded one."""

    engine: Literal["torch", "toy"] = "torch"
    """What computes; toy has no model, and tokens that are a checksum of the KV they were given."""

    served_model_name: str | None = None
    """The model's name for people, in the identity that this worker reports; unset: the model's own."""

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where models are kept."""

    run_dir: Path | None = None
    """Where the lock file is made that tells the store this worker lives; unset: the temporary directory."""

    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """What weights, KV and arithmetic are in; auto: the model's own."""

    device: str = "auto"
    """Where the model runs: cpu, cuda, cuda:1; auto: the first GPU if there is one, else the CPU."""

    threads: int | None = Field(default=None, ge=1)
    """Threads to compute with; unset: one for each core."""

    block_tokens: int = Field(default=64, ge=1, le=4096)
    """Tokens in a block; the same for all of a deployment."""

    kv_cache_bytes: Size | None = Field(default=None, ge=1)
    """Device memory for KV blocks; unset: decided from what the model and the machine have."""

    max_model_len: int | None = Field(default=None, ge=1)
    """The longest sequence in tokens, prompt and output; unset: the model's own."""

    max_num_seqs: int = Field(default=32, ge=1)
    """Sequences in the batch at a time."""

    max_num_batched_tokens: int = Field(default=2048, ge=1)
    """Tokens computed in one step; prefills are cut into chunks to fit."""

    max_waiting: int = Field(default=256, ge=1)
    """Requests that wait for a seat; one more is refused."""

    drain_s: float = Field(default=3.0, ge=0)
    """How long running streams may go on once the process is told to stop."""

    verify_lifts: bool = False
    """Check every block's checksum when it is lifted from the arena, not only its session; for tests."""

    toy_profile: str | None = None
    """For the toy engine: what work costs, as JSON with prefill_s, step_s and transfer_s; it then takes that long."""

    toy_seed: int = 0
    """For the toy engine: which model it is."""
