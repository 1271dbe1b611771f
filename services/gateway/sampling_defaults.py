"""What a request gets that does not say how to sample: the values of a model's generation_config.json.

They are read as vLLM 0.32 reads them (``ModelConfig.get_diff_sampling_param``): each field counts by itself, whatever
``do_sample`` says; null means not set. A value that no request may have is refused when the model is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from services.gateway.bounds import MIN_P, PENALTY, REPETITION_PENALTY, TEMPERATURE, TOP_K, TOP_P, Real, Whole, shown


class SamplingDefaultsError(ValueError):
    """A field has a value that can't be; the message names both."""


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """The model's own recommendation, else OpenAI's defaults."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_new_tokens: int | None = None
    """Of an answer to a conversation that sets no limit; None: what is left of the context."""


_BOUNDS: Mapping[str, Real | Whole] = {
    "temperature": TEMPERATURE,
    "top_k": TOP_K,
    "top_p": TOP_P,
    "min_p": MIN_P,
    "repetition_penalty": REPETITION_PENALTY,
    "presence_penalty": PENALTY,
    "frequency_penalty": PENALTY,
    "max_new_tokens": Whole(1),
}


def sampling_defaults(generation: Mapping[str, Any]) -> SamplingDefaults:
    """The defaults that the content of a generation_config.json means. Raises SamplingDefaultsError."""
    given: dict[str, Any] = {}
    for name, bounds in _BOUNDS.items():
        if (value := generation.get(name)) is not None:
            try:
                given[name] = bounds.check(value)
            except PydanticCustomError as error:
                raise SamplingDefaultsError(f"{name} {error.message()}, not {shown(value)}") from error
    return SamplingDefaults(**given)
