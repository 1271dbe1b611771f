"""Fields that change the text of an answer, or ask for more than text, and are not done: refused by name.

Where they come from, with versions, is a column of the table in tests/field/request_fields.py.
"""

from collections.abc import Mapping

from services.gateway.parameters.refusal import (
    Refusal,
    biases,
    chooses_tools,
    constrains,
    given,
    more_than_text,
    not_text,
    other_than,
    over,
    table,
    thinks,
    truthy,
)

_CONSTRAINED = "is not supported: output cannot be constrained to a grammar"
_TOOLS = "is not supported: answers are text, never tool calls"
_NO_PROBABILITIES = "is not supported: answers come without probabilities"
_SAMPLER = "is not supported: this sampler is not there"
_TEXT_ONLY = "is not supported: prompts and answers are text"
_ADAPTERS = "is not supported: there are no adapters"
_PROMPT = "is not supported: the prompt is made of `messages` or `prompt` alone"
_WHOLE_PROMPT = "is not supported: prompts are never cut"
_NESTED = "is not supported: put its fields into the body itself"
_IN_THE_BODY = "is not supported: put it into the body itself"
_TEMPLATE = "is not supported: the model's own chat template is used"
_THINKING = "is not supported: thoughts are text like any; use `reasoning_effort` or `chat_template_kwargs`"
_NOT_RETURNED = "is not supported: answers do not have it"

CONSTRAINTS: Mapping[str, Refusal] = {
    **table(
        constrains,
        _CONSTRAINED,
        (
            "ebnf",
            "format",
            "grammar",
            "guided_choice",
            "guided_grammar",
            "guided_json",
            "guided_regex",
            "json_schema",
            "regex",
            "structural_tag",
        ),
    ),
    "response_format": Refusal(not_text, "is not supported other than text"),
    "stop_regex": Refusal(truthy, "is not supported: use `stop`"),
    "structured_outputs": Refusal(truthy, _CONSTRAINED),
}

SAMPLERS: Mapping[str, Refusal] = {
    **table(
        other_than(0, False),
        _SAMPLER,
        (
            "dry_multiplier",
            "dynatemp_range",
            "epsilon_cutoff",
            "eta_cutoff",
            "mirostat",
            "mirostat_mode",
            "no_repeat_ngram_size",
            "penalty_alpha",
            "prompt_ignore_length",
            "smoothing_factor",
            "top_a",
            "top_p_min",
            "xtc_probability",
        ),
    ),
    **table(
        other_than(1),
        _SAMPLER,
        ("encoder_repetition_penalty", "tfs", "tfs_z", "top_p_decay", "typical_p"),
    ),
    **table(
        truthy,
        "is not supported",
        (
            "allowed_token_ids",
            "bad_words",
            "bad_words_token_ids",
            "custom_logit_processor",
            "custom_params",
            "logits_processors",
            "penalize_nl",
            "repetition_detection",
            "use_beam_search",
            "vllm_xargs",
            "watermark",
            "watermarking",
        ),
    ),
    "adaptive_target": Refusal(over(-1e-30), _SAMPLER),
    "best_of": Refusal(over(1), "is not supported above 1; use n"),
    "do_sample": Refusal(other_than(True), "is not supported: for the most probable tokens, use `temperature` 0"),
    "length_penalty": Refusal(other_than(1), "is not supported: factors other than 1 change what is sampled"),
    "logit_bias": Refusal(biases),
    "min_keep": Refusal(over(1), _SAMPLER),
    "repeat_last_n": Refusal(other_than(-1), "is not supported: penalties count the whole sequence"),
    "samplers": Refusal(truthy, "is not supported: samplers have one order"),
    "top_n_sigma": Refusal(over(0), _SAMPLER),
}

PROMPTS: Mapping[str, Refusal] = {
    **table(
        truthy,
        _PROMPT,
        (
            "context",
            "guideline",
            "input_embeds",
            "input_extra",
            "input_ids",
            "input_prefix",
            "input_suffix",
            "inputs",
            "preset",
            "prompt_embeds",
            "prompt_token_ids",
            "prompt_token_ids_b64",
            "raw",
            "safe_prompt",
            "session_params",
            "system",
            "task",
        ),
    ),
    **table(truthy, _TEMPLATE, ("chat_template", "generation_prompt", "template")),
    **table(truthy, _TEXT_ONLY, ("audio_data", "image_data", "images", "video_data")),
    **table(given, _WHOLE_PROMPT, ("truncate", "truncate_prompt_tokens")),
    "audio": Refusal(truthy, "is not supported: answers are text"),
    "data_sources": Refusal(truthy, "is not supported: put them into the messages"),
    "do_preprocess": Refusal(other_than(True), "is not supported: use /v1/completions for a prompt without a template"),
    "documents": Refusal(truthy, "is not supported: put them into the messages"),
    "modalities": Refusal(more_than_text, "is not supported: answers are text"),
    "plugins": Refusal(truthy, "is not supported"),
    "suffix": Refusal(truthy, "is not supported: text is continued, not filled in"),
    "transforms": Refusal(truthy, _WHOLE_PROMPT),
    "web_search_options": Refusal(given, "is not supported"),
}

TOOLS: Mapping[str, Refusal] = {
    "function_call": Refusal(chooses_tools, _TOOLS),
    "functions": Refusal(truthy, _TOOLS),
    "tool_choice": Refusal(chooses_tools, _TOOLS),
    "tools": Refusal(truthy, _TOOLS),
}

THINKING: Mapping[str, Refusal] = {
    **table(thinks, _THINKING, ("reasoning", "think", "thinking")),
    **table(
        other_than(-1, False),
        _THINKING,
        ("reasoning_budget_tokens", "thinking_budget", "thinking_budget_tokens", "thinking_token_budget"),
    ),
    "include_reasoning": Refusal(other_than(True), _THINKING),
    "reasoning_control": Refusal(given, _THINKING),
    "reasoning_format": Refusal(other_than("none", "auto"), _THINKING),
    "verbosity": Refusal(other_than("medium"), "is not supported other than medium"),
}

ENDS_AND_FORM: Mapping[str, Refusal] = {
    "_debug_render_only": Refusal(given, "is not supported: use POST /tokenize"),
    "detokenize": Refusal(other_than(True), "is not supported: answers are text; `return_token_ids` adds ids"),
    "extra_key": Refusal(truthy, "is not supported: use `cache_salt`"),
    "mock_response": Refusal(truthy),
    "n_cache_reuse": Refusal(other_than(0), "is not supported: a prefix is reused as it is, or not at all"),
    "n_indent": Refusal(other_than(0)),
    "no_stop_trim": Refusal(given, "is not supported: use `include_stop_str_in_output`"),
    "return_full_text": Refusal(given, "is not supported: completions have `echo`"),
    "spaces_between_special_tokens": Refusal(other_than(True), "is not supported other than true"),
    "t_max_predict_ms": Refusal(over(0), "is not supported: use `max_tokens`"),
}

NOT_RETURNED: Mapping[str, Refusal] = {
    **table(
        given,
        _NOT_RETURNED,
        (
            "decoder_input_details",
            "details",
            "return_assistant_tokens_mask",
            "return_context_logits",
            "return_generation_logits",
            "return_hidden_states",
            "return_meta_info",
            "return_prompt_text",
            "return_prompt_token_ids",
            "return_routed_experts",
            "return_token_offsets",
            "return_tokens",
        ),
    ),
    **table(
        given,
        _NO_PROBABILITIES,
        ("logprob_token_ids", "logprobs", "prompt_logprobs", "return_logprob"),
    ),
    **table(other_than(0, False), _NO_PROBABILITIES, ("n_probs", "top_logprobs", "top_logprobs_num", "top_n_tokens")),
}

NESTED: Mapping[str, Refusal] = {
    **table(truthy, _NESTED, ("extra_body", "generation_config", "options", "parameters", "sampling_params")),
    **table(
        truthy,
        _ADAPTERS,
        ("adapter_id", "adapter_name", "lora", "lora_name", "lora_path", "lora_request"),
    ),
    "disaggregated_params": Refusal(truthy, "is not supported: prefill and decode workers are chosen here"),
}

REFUSED: Mapping[str, Refusal] = dict(
    sorted(
        {
            **CONSTRAINTS,
            **SAMPLERS,
            **PROMPTS,
            **TOOLS,
            **THINKING,
            **ENDS_AND_FORM,
            **NOT_RETURNED,
            **NESTED,
        }.items()
    )
)

REFUSED_OF_NVEXT: Mapping[str, Refusal] = {
    **table(
        constrains,
        _IN_THE_BODY,
        ("guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json", "guided_regex"),
    ),
    "ignore_eos": Refusal(given, _IN_THE_BODY),
    "repetition_penalty": Refusal(other_than(1), _IN_THE_BODY),
    "top_k": Refusal(other_than(0, -1), _IN_THE_BODY),
    "greed_sampling": Refusal(given, "is not supported: use `temperature` 0"),
    "max_thinking_tokens": Refusal(given, _THINKING),
    "token_data": Refusal(truthy, _PROMPT),
    "use_raw_prompt": Refusal(given, _PROMPT),
}
"""Of Dynamo's extensions, which stand in an object of their own."""

REFUSED_OF_TEMPLATES: Mapping[str, Refusal] = table(
    given,
    "is not supported: it has a field of its own, or none",
    (
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "messages",
        "tokenize",
        "tools",
    ),
)
"""Of ``chat_template_kwargs``: what the conversation itself is made of."""

REFUSED_OF_MESSAGES: Mapping[str, Refusal] = {
    "audio": Refusal(truthy, _TEXT_ONLY),
    "images": Refusal(truthy, _TEXT_ONLY),
    "prefix": Refusal(given, "is not supported: use `continue_final_message`"),
}

OF_THE_PROMPT = frozenset({*PROMPTS, "functions", "tools"} - {"audio", "modalities", "suffix", "web_search_options"})
"""Those that change what /tokenize gives."""
