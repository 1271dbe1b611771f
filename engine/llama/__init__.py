"""The torch engine for decoder-only models of the Llama family: Llama, Mistral, Qwen2, Qwen3, SmolLM.

Importing this package is cheap; ``LlamaEngine`` brings torch in when it is first asked
for, so that converting a GGUF file or printing help needs no torch.

    EngineError            the engine cannot be made or cannot run
    └── UnsupportedModel   this model has something that the engine does not run
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.llama.engine import LlamaEngine

__all__ = ["LlamaEngine", "sleep_at_barriers"]


def sleep_at_barriers() -> None:
    """Let threads that wait for each other sleep at once; has effect before torch is first imported only.

    A step has hundreds of barriers. By default OpenMP's threads spin there, and where anybody else wants their
    cores each barrier can cost a turn of the scheduler: measured with 2 threads on 2 cores and one busy process
    beside, a decode step of SmolLM2 took 331 ms spinning and 28 ms sleeping. What the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def __getattr__(name: str) -> object:
    if name == "LlamaEngine":
        sleep_at_barriers()
        from engine.llama.engine import LlamaEngine

        return LlamaEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
