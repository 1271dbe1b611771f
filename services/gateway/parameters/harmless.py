"""Fields that are known and cannot change an answer's text: let pass without a word."""

OF_OPENAI = frozenset(
    {
        "metadata",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
    }
)

OF_ROUTING = frozenset(
    {
        "agent_hierarchy",
        "bootstrap_host",
        "bootstrap_port",
        "bootstrap_room",
        "conversation_id",
        "conversation_params",
        "data_parallel_rank",
        "disagg_prefill_dp_rank",
        "ec_transfer_params",
        "fallbacks",
        "id_slot",
        "kv_transfer_params",
        "models",
        "ngram_corpus_id",
        "provider",
        "rid",
        "request_id",
        "route",
        "routed_dp_rank",
        "session_id",
    }
)
"""Where and under which name another server would run a request; here the conductor decides."""

OF_TELLING = frozenset(
    {
        "background",
        "cache_prompt",
        "custom_labels",
        "drop_params",
        "extra_headers",
        "extra_query",
        "keep_alive",
        "log_metrics",
        "num_retries",
        "parse_tool_calls",
        "response_fields",
        "return_cached_tokens_details",
        "return_mm_kwargs",
        "return_progress",
        "separate_reasoning",
        "sse_ping_interval",
        "stream_interval",
        "stream_reasoning",
        "tags",
        "timeout",
        "timings_per_token",
        "trace",
        "usage",
        "verbose",
    }
)
"""Progress, timings, labels, and the cutting of streams into chunks."""

OF_WHAT_IS_REFUSED = frozenset(
    {
        "adaptive_decay",
        "backend_sampling",
        "chat_format",
        "chat_parser",
        "dry_allowed_length",
        "dry_base",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "dynatemp_exponent",
        "early_stopping",
        "grammar_lazy",
        "grammar_triggers",
        "grammar_type",
        "guided_decoding_backend",
        "guided_whitespace_pattern",
        "images_config",
        "injected_chat_template_kwargs",
        "logprob_start_len",
        "max_dynamic_patch",
        "media_io_kwargs",
        "min_dynamic_patch",
        "mirostat_eta",
        "mirostat_tau",
        "mm_processor_kwargs",
        "n_discard",
        "n_keep",
        "post_sampling_probs",
        "preserved_tokens",
        "reasoning_budget_end_tag",
        "reasoning_budget_end_tags",
        "reasoning_budget_message",
        "reasoning_budget_start_tag",
        "reasoning_in_content",
        "return_text_in_logprobs",
        "return_tokens_as_token_ids",
        "routed_experts_prompt_start",
        "routed_experts_start_len",
        "smoothing_curve",
        "speculative.n_max",
        "speculative.n_min",
        "speculative.p_min",
        "thinking_forced_open",
        "token_ids_logprob",
        "tool_prompt",
        "truncation_side",
        "use_audio_in_video",
        "xtc_threshold",
    }
)
"""They say how something is done whose own field is refused if it asks for it, or are about images and drafts."""

HARMLESS = OF_OPENAI | OF_ROUTING | OF_TELLING | OF_WHAT_IS_REFUSED
