"""The fields of requests that servers of this kind take, from their own definitions, and values that ask for nothing.

A row for each source: project, version or commit, file. What Moonpool makes of a field is in services/gateway.
"""

from collections.abc import Mapping

OPENAI_CHAT = """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages
    metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key
    prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier
    stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options
"""
OPENAI_COMPLETIONS = """
    best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt seed stop stream
    stream_options suffix temperature top_p user
"""
VLLM = """
    add_generation_prompt add_special_tokens allowed_token_ids bad_words cache_salt chat_template chat_template_kwargs
    continue_final_message documents ec_transfer_params echo frequency_penalty ignore_eos include_reasoning
    include_stop_str_in_output kv_transfer_params length_penalty logit_bias logprob_token_ids logprobs
    max_completion_tokens max_tokens media_io_kwargs messages min_p min_tokens mm_processor_kwargs model n
    parallel_tool_calls presence_penalty priority prompt prompt_embeds prompt_logprobs reasoning_effort
    repetition_detection repetition_penalty request_id response_format return_assistant_tokens_mask return_mm_kwargs
    return_prompt_text return_token_ids return_token_offsets return_tokens_as_token_ids routed_experts_prompt_start
    seed session_id skip_special_tokens spaces_between_special_tokens stop stop_token_ids stream stream_interval
    stream_options structured_outputs suffix temperature thinking_token_budget tool_choice tools top_k top_logprobs
    top_p truncate_prompt_tokens truncation_side use_beam_search user vllm_xargs watermarking
"""
VLLM_BEFORE = """
    best_of guided_choice guided_decoding_backend guided_grammar guided_json guided_regex guided_whitespace_pattern
    logits_processors
"""
SGLANG = """
    best_of bootstrap_host bootstrap_port bootstrap_room cache_salt chat_template_kwargs continue_final_message
    custom_labels custom_logit_processor custom_params data_parallel_rank disagg_prefill_dp_rank ebnf echo extra_key
    frequency_penalty ignore_eos images_config input_ids json_schema logit_bias logprobs lora_path max_completion_tokens
    max_dynamic_patch max_tokens messages min_dynamic_patch min_p min_tokens model n ngram_corpus_id no_stop_trim
    parallel_tool_calls presence_penalty priority prompt reasoning reasoning_effort regex repetition_penalty
    response_format return_cached_tokens_details return_hidden_states return_meta_info return_prompt_token_ids
    return_routed_experts return_token_ids rid routed_dp_rank routed_experts_start_len seed separate_reasoning
    session_id session_params skip_special_tokens stop stop_regex stop_token_ids stream stream_options
    stream_reasoning suffix task temperature tool_choice tools top_k top_logprobs top_p use_audio_in_video user
"""
SGLANG_SAMPLING = """
    custom_params ebnf frequency_penalty ignore_eos json_schema logit_bias max_new_tokens min_new_tokens min_p n
    no_stop_trim presence_penalty regex repetition_penalty sampling_seed skip_special_tokens
    spaces_between_special_tokens stop stop_regex stop_token_ids stream_interval structural_tag temperature top_k top_p
"""
SGLANG_GENERATE = """
    audio_data background conversation_id image_data input_embeds log_metrics logprob_start_len return_logprob
    return_text_in_logprobs sampling_params token_ids_logprob top_logprobs_num video_data
"""
LLAMA_CPP = """
    adaptive_decay adaptive_target backend_sampling cache_prompt chat_format chat_parser continue_final_message
    dry_allowed_length dry_base dry_multiplier dry_penalty_last_n dry_sequence_breakers dynatemp_exponent
    dynatemp_range echo frequency_penalty generation_prompt grammar grammar_lazy grammar_triggers grammar_type
    id_slot ignore_eos json_schema logit_bias logprobs lora max_completion_tokens max_tokens min_keep min_p mirostat
    mirostat_eta mirostat_tau n n_cache_reuse n_cmpl n_discard n_indent n_keep n_predict n_probs parse_tool_calls
    post_sampling_probs presence_penalty preserved_tokens reasoning_budget_end_tag reasoning_budget_end_tags
    reasoning_budget_message reasoning_budget_start_tag reasoning_budget_tokens reasoning_control reasoning_format
    reasoning_in_content repeat_last_n repeat_penalty response_fields return_progress return_tokens samplers seed
    speculative.n_max speculative.n_min speculative.p_min sse_ping_interval stop stream stream_options
    t_max_predict_ms temperature thinking_forced_open timings_per_token top_k top_n_sigma top_p typical_p verbose
    xtc_probability xtc_threshold
"""
LLAMA_CPP_BEFORE = "input_extra input_prefix input_suffix penalize_nl tfs_z thinking_budget_tokens"
TGI = """
    adapter_id best_of decoder_input_details details do_sample frequency_penalty grammar guideline inputs logit_bias
    logprobs max_new_tokens max_tokens messages model n parameters presence_penalty repetition_penalty
    response_format return_full_text seed stop stream stream_options temperature tool_choice tool_prompt tools top_k
    top_logprobs top_n_tokens top_p truncate typical_p watermark
"""
DYNAMO = """
    allowed_token_ids bad_words_token_ids cache_salt guided_choice guided_decoding_backend guided_grammar guided_json
    guided_regex ignore_eos include_stop_str_in_output min_tokens nvext prompt_token_ids repetition_penalty
    stop_token_ids top_k truncate_prompt_tokens
"""
TENSORRT_LLM = """
    add_generation_prompt add_special_tokens agent_hierarchy best_of cache_salt chat_template chat_template_kwargs
    conversation_params detokenize disaggregated_params documents early_stopping echo frequency_penalty ignore_eos
    include_stop_str_in_output injected_chat_template_kwargs length_penalty logit_bias logprobs lora_request
    max_completion_tokens max_tokens media_io_kwargs messages min_p min_tokens mm_processor_kwargs model n
    parallel_tool_calls presence_penalty priority prompt prompt_ignore_length prompt_token_ids prompt_token_ids_b64
    reasoning_effort repetition_penalty response_format return_context_logits seed skip_special_tokens
    spaces_between_special_tokens stop stop_token_ids stream stream_options suffix temperature thinking
    thinking_token_budget tool_choice tools top_k top_logprobs top_p top_p_min truncate_prompt_tokens use_beam_search
    user
"""
LMDEPLOY = """
    adapter_name do_preprocess echo enable_thinking frequency_penalty ignore_eos include_stop_str_in_output logit_bias
    logprobs max_completion_tokens max_tokens messages min_new_tokens min_p model n presence_penalty prompt
    reasoning_effort repetition_penalty response_format return_token_ids seed session_id skip_special_tokens
    spaces_between_special_tokens stop stream stream_options suffix temperature tool_choice tools top_k top_logprobs
    top_p user
"""
OLLAMA = """
    _debug_render_only frequency_penalty max_tokens messages model presence_penalty prompt reasoning reasoning_effort
    response_format seed stop stream stream_options suffix temperature tools top_p
"""
OLLAMA_NATIVE = "context format images keep_alive options raw system template think"
OPENROUTER = "include_reasoning models plugins preset provider reasoning route top_a trace transforms usage verbosity"
LITELLM = "drop_params fallbacks mock_response num_retries tags thinking"
OTHERS = """
    data_sources encoder_repetition_penalty epsilon_cutoff eta_cutoff extra_body extra_headers extra_query
    generation_config lora_name mirostat_mode no_repeat_ngram_size penalty_alpha random_seed
    return_generation_logits safe_prompt smoothing_curve smoothing_factor tfs thinking_budget timeout top_p_decay
"""

SOURCES: Mapping[str, str] = {
    "openai-python 3.54.0, types/chat/completion_create_params.py": OPENAI_CHAT,
    "openai-python 3.54.0, types/completion_create_params.py": OPENAI_COMPLETIONS,
    "vLLM 002032ee (after 0.33), entrypoints/openai/{chat_completion,completion}/protocol.py": VLLM,
    "vLLM 0.8, entrypoints/openai/protocol.py": VLLM_BEFORE,
    "SGLang 004c82e0 (0.5), srt/entrypoints/openai/protocol.py": SGLANG,
    "SGLang 00c17caf (0.5), srt/sampling/sampling_params.py": SGLANG_SAMPLING,
    "SGLang 0.5, srt/managers/io_struct.py, GenerateReqInput": SGLANG_GENERATE,
    "llama.cpp 0177c342, tools/server/server-schema.cpp": LLAMA_CPP,
    "llama.cpp before 2026, tools/server/README.md": LLAMA_CPP_BEFORE,
    "TGI 3, router/src/lib.rs and docs/openapi.json": TGI,
    "Dynamo 0d98a95c (1.6), lib/llm/src/protocols/openai/{common_ext,validate}.rs": DYNAMO,
    "TensorRT-LLM 0076e939, tensorrt_llm/serve/openai_protocol.py": TENSORRT_LLM,
    "LMDeploy 0051af7d, lmdeploy/serve/openai/protocol.py": LMDEPLOY,
    "Ollama 00988753, openai/openai.go": OLLAMA,
    "Ollama's own API, docs/api.md": OLLAMA_NATIVE,
    "OpenRouter, API reference (parameters)": OPENROUTER,
    "LiteLLM 1.109, proxy's reserved fields": LITELLM,
    "transformers' GenerationConfig, text-generation-webui, Mistral, Azure, arguments of openai-python": OTHERS,
}

NVEXT = """
    agent_hints annotations backend_instance_id decode_worker_id dp_rank extra_fields greed_sampling max_thinking_tokens
    prefill_dp_rank prefill_worker_id request_timestamp_ms session_control token_data use_raw_prompt
"""
"""Dynamo 03f06d19 (1.6), lib/llm/src/protocols/openai/nvext.rs."""

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "adaptive_target": (-1, -1.0),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "best_of": (0, 1),
    "chat_template": ("",),
    "custom_params": ({},),
    "detokenize": (True,),
    "details": (False,),
    "do_preprocess": (True,),
    "do_sample": (True,),
    "documents": ([],),
    "dry_multiplier": (0, 0.0, False),
    "dynatemp_range": (0, 0.0),
    "ebnf": ("",),
    "extra_body": ({},),
    "extra_key": ("",),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "grammar": ("",),
    "guided_choice": ([],),
    "include_reasoning": (True,),
    "input_ids": ([],),
    "length_penalty": (1, 1.0),
    "logit_bias": ({}, [], {"5": 0}, {"5": 0.0, "6": -0.0}),
    "logprobs": (False,),
    "lora": ([],),
    "lora_path": ("",),
    "min_keep": (0, 1),
    "mirostat": (0, False),
    "modalities": (["text"], []),
    "n_cache_reuse": (0,),
    "n_indent": (0,),
    "n_probs": (0,),
    "no_repeat_ngram_size": (0,),
    "no_stop_trim": (False,),
    "options": ({},),
    "parameters": ({},),
    "plugins": ([],),
    "prompt_logprobs": (False,),
    "reasoning": (False, {}, {"enabled": False}, {"effort": "none"}),
    "reasoning_budget_tokens": (-1,),
    "reasoning_format": ("none", "auto"),
    "regex": ("",),
    "repeat_last_n": (-1,),
    "response_format": ({"type": "text"},),
    "return_full_text": (False,),
    "return_hidden_states": (False,),
    "return_logprob": (False,),
    "samplers": ([], ""),
    "sampling_params": ({},),
    "spaces_between_special_tokens": (True,),
    "stop_regex": ([], ""),
    "structured_outputs": ({}, False),
    "suffix": ("",),
    "t_max_predict_ms": (0, -1),
    "tfs_z": (1, 1.0),
    "think": (False,),
    "thinking": (False, {}, {"type": "disabled"}),
    "thinking_token_budget": (-1,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_a": (0,),
    "top_logprobs": (0,),
    "top_n_sigma": (-1, -1.0, 0),
    "top_n_tokens": (0,),
    "transforms": ([],),
    "truncate_prompt_tokens": (False,),
    "typical_p": (1, 1.0),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "vllm_xargs": ({},),
    "watermark": (False,),
    "watermarking": (False,),
    "xtc_probability": (0, 0.0),
}
"""Values that ask for nothing, besides null: the field's own default there, or what switches it off."""

ASKING: Mapping[str, tuple[object, ...]] = {
    "adaptive_target": (0.5, 0),
    "best_of": (2,),
    "detokenize": (False,),
    "do_preprocess": (False,),
    "do_sample": (False,),
    "ebnf": ('root ::= "a"',),
    "grammar": ('root ::= "a"', {"type": "json", "value": {}}),
    "guided_json": ({}, {"type": "object"}, "{}"),
    "include_reasoning": (False,),
    "json_schema": ({}, {"type": "object"}, "{}"),
    "length_penalty": (0.8, 0),
    "logit_bias": ({"1": 5}, {"1": 0, "2": -1}, {"1": "0"}, [[1, 5]]),
    "logprobs": (True, 0, 1),
    "mirostat": (1, 2, "2"),
    "modalities": (["text", "audio"],),
    "no_stop_trim": (True,),
    "prompt_logprobs": (0, 1),
    "reasoning": (True, {"effort": "low"}, {"max_tokens": 100}, {"exclude": True}),
    "reasoning_format": ("deepseek",),
    "repeat_last_n": (0, 64),
    "response_format": ({"type": "json_object"}, {"type": "json_schema"}, {"type": "regex", "regex": "a"}, {}, "json"),
    "return_hidden_states": (True, "last"),
    "samplers": (["top_k"], "edkypmxt"),
    "spaces_between_special_tokens": (False,),
    "structured_outputs": ({"regex": "a"}, True),
    "think": (True, "low"),
    "thinking": (True, {"type": "enabled"}, {"type": "enabled", "budget_tokens": 100}),
    "thinking_token_budget": (0, 100),
    "tool_choice": ("required", {"type": "function", "function": {"name": "f"}}),
    "top_logprobs": (1,),
    "top_n_sigma": (1.0,),
    "truncate_prompt_tokens": (-1, 5),
    "typical_p": (0.9, 0),
    "verbosity": ("low", "high"),
    "web_search_options": ({}, {"search_context_size": "low"}),
    "xtc_probability": (0.5,),
}
"""Values that are refused; of other fields, the word "something"."""
