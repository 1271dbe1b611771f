"""Models as files: where a name leads, and how a GGUF file becomes a Hugging Face directory.

Errors: every reason why a model can't be had is a ``ModelError`` with a sentence for the operator.
"""

from services.models.errors import ModelError

__all__ = ["ModelError"]
