#!/usr/bin/env bash
# tokenizers 0.23.3 (CPython 3.11): `Tokenizer.encode` holds Python's global lock until the whole text is tokenized,
# `Tokenizer.encode_batch` of the same single text releases it.
#
# So a server that tokenizes in a thread beside its event loop stops that loop all the same, and every stream with it:
# 0.23 s for a prompt of 100,000 characters, measured with a tokenizer of 49,152 tokens. A batch of one gives the same
# ids and leaves the loop alone; the longest pause was 7 ms.
#
# Seen on 2026-11-30, 650,000 characters: during `encode` (0.88 s) another thread that wakes every millisecond ran
# once, during `encode_batch` (0.92 s) 767 times. Fails once `encode` lets other threads run.
#
# Packages: tokenizers==0.23.3
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip -q install tokenizers==0.23.3
venv/bin/python - <<'PYTHON'
import threading
import time

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

text = "the quick brown fox jumps over the lazy dog and runs away again. " * 10_000
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=400, show_progress=False))


def wakes_during(work):
    """How often another thread that wakes every millisecond runs while ``work`` does."""
    stop, wakes = threading.Event(), []

    def wake():
        while not stop.is_set():
            wakes.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=wake)
    thread.start()
    start = time.perf_counter()
    result = work()
    end = time.perf_counter()
    stop.set()
    thread.join()
    return result, sum(start < at < end for at in wakes), end - start


one, held, took = wakes_during(lambda: tokenizer.encode(text).ids)
(batch,), free, took_batch = wakes_during(lambda: [each.ids for each in tokenizer.encode_batch([text])])
print(f"encode: {took:.2f} s, another thread ran {held} times")
print(f"encode_batch of one: {took_batch:.2f} s, another thread ran {free} times")
assert one == batch
assert held <= 3, "encode lets other threads run"
assert free >= 20, "encode_batch holds the lock, too"
PYTHON
