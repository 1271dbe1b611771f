"""The torch engine for decoder-only models of the Llama family: Llama, Mistral, Qwen2, Qwen3, SmolLM.

Importing this package is cheap; ``LlamaEngine`` brings torch in when it is first asked
for, so that converting a GGUF file or printing help needs no torch.

    EngineError            the engine cannot be made or cannot run
    └── UnsupportedModel   this model has something that the engine does not run
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.llama.engine import LlamaEngine

__all__ = ["LlamaEngine"]


def __getattr__(name: str) -> object:
    if name == "LlamaEngine":
        from engine.llama.engine import LlamaEngine

        return LlamaEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
