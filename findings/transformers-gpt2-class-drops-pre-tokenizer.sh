#!/usr/bin/env bash
# transformers 5.24.0 gives other ids than the tokenizer.json it reads, where tokenizer_config.json names a class that
# builds its own splitting: GPT2Tokenizer keeps vocabulary and merges of the file and drops its pre-tokenizer.
#
# Here tokenizer.json splits digits one by one before the bytes, as several published vocabularies of GPT-2's kind do. A
# server that loads that file with the tokenizers library splits "12" into two tokens;
# AutoTokenizer merges it into one. With "PreTrainedTokenizerFast" instead, both agree. Neither says a word.
#
# Packages: transformers==5.24.0 tokenizers==0.23.3
# Seen on 2026-12-01, Python 3.11:
#   tokenizer.json                     ['1', '2']
#   as GPT2Tokenizer                   ['12']
#   as PreTrainedTokenizerFast         ['1', '2']
# Exits non-zero where that changes.
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3
cat > read.py <<'PY'
import json
import logging
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

logging.disable(logging.CRITICAL)
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {text: place for place, text in enumerate([*letters, "12"])}
made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("1", "2")]))
made.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
made.decoder = decoders.ByteLevel()
print(f"{'tokenizer.json':<35}{made.encode('12').tokens}")
for name in ("GPT2Tokenizer", "PreTrainedTokenizerFast"):
    folder = pathlib.Path(name)
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    print(f"{'as ' + name:<35}{AutoTokenizer.from_pretrained(folder).tokenize('12')}")
PY
venv/bin/python read.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
tokenizer.json                     ['1', '2']
as GPT2Tokenizer                   ['12']
as PreTrainedTokenizerFast         ['1', '2']
SEEN
