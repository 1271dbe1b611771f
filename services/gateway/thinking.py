"""How much a model is to think before it answers: variables of its chat template, as vLLM and SGLang set them."""

from collections.abc import Collection, Mapping

from services.gateway.errors import bad_request
from services.gateway.schemas import ConversationBody

SWITCHES = ("enable_thinking", "thinking")
"""Qwen3, GLM-4.5 and others read the first; DeepSeek-V3.1 and Kimi K2 the second."""


def thinking_variables(body: ConversationBody, read: Collection[str]) -> Mapping[str, object]:
    """What ``reasoning_effort`` and ``enable_thinking`` mean for a template. read: the variables that it reads.

    Raises ApiError where thinking is asked for and the template has no say in it. Switches that the request sets by
    itself, in ``chat_template_kwargs``, stay.
    """
    effort, enabled = body.reasoning_effort, body.enable_thinking
    if effort is None and enabled is None:
        return {}
    param = "reasoning_effort" if enabled is None else "enable_thinking"
    thinks = effort != "none" if enabled is None else enabled
    if thinks and not set(read) & {"reasoning_effort", *SWITCHES}:
        told = "is not supported: this model's chat template does not read it"
        raise bad_request(f"`{param}` {told}.", param, "unsupported_parameter")
    own = body.chat_template_kwargs or {}
    switches = {name: thinks for name in SWITCHES if name not in own}
    return switches if effort is None else {**switches, "reasoning_effort": effort}
