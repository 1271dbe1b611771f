"""Request logs that people have, and what each of them means: the next report is one more row.

Formats and their units are those of HPMLL/BurstGPT 2.0, Azure/AzurePublicDataset (2023, 2024), kvcache-ai/Mooncake
(FAST25-release), the qwen-bailian traces as vLLM 0.32's ``timed_trace`` describes them, microsoft/vidur, and ShareGPT.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loadtest.request import Span
from loadtest.trace_file import TraceFile, read
from loadtest.traces import Trace, TraceError, Unit, requests


def lines(*rows: tuple[Any, ...], names: Sequence[Any] | None = None) -> str:
    """Mooncake's lines of (timestamp, input, output), each with its hash ids where there are any."""
    fields = ("timestamp", "input_length", "output_length")
    documents: list[dict[str, Any]] = [dict(zip(fields, row, strict=True)) for row in rows]
    for document, own in zip(documents, names or (), strict=False):
        document["hash_ids"] = own
    return "".join(json.dumps(document) + "\n" for document in documents)


BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
BURST_2 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
PUBLISHED_BLOCKS = [[1, 2], [1, 3], [1, 4]]


@dataclass(frozen=True)
class Found:
    """times in seconds from the first request; lengths of prompts and answers; said: words of the notes, in order."""

    times: list[float]
    lengths: list[tuple[int, int]]
    block_tokens: int = 512
    said: list[str] = field(default_factory=list)


READ: dict[str, tuple[str, Found]] = {
    "Mooncake: milliseconds, blocks of 512": (
        lines((0, 600, 4), (60_000, 600, 5), (121_000, 600, 6), names=PUBLISHED_BLOCKS),
        Found([0, 60, 121], [(600, 4), (600, 5), (600, 6)]),
    ),
    "in seconds, with fractions": (
        lines((0.0, 600, 4), (60.5, 600, 4), (121.0, 600, 4), names=PUBLISHED_BLOCKS),
        Found([0, 60.5, 121], [(600, 4)] * 3, said=["taken for seconds"]),
    ),
    "fractions of milliseconds over an hour": (
        lines((0.5, 600, 4), (3_600_000.5, 600, 4), names=PUBLISHED_BLOCKS[:2]),
        Found([0, 3600], [(600, 4)] * 2),
    ),
    "whole seconds, so many that they can't be milliseconds": (
        lines(*((at // 2, 10, 1) for at in range(2000)), names=[[0]] * 2000),
        Found([float(at // 2) for at in range(2000)], [(10, 1)] * 2000, said=["taken for seconds"]),
    ),
    "a short one is doubted": (
        lines((0, 600, 4), (100, 600, 4), names=PUBLISHED_BLOCKS[:2]),
        Found([0, 0.1], [(600, 4)] * 2, said=["spans 0.1 s: are its times seconds?"]),
    ),
    "without hashes": (
        lines((0, 256, 4), (200_000, 300, 4)),
        Found([0, 200], [(256, 4), (300, 4)], said=["share no prefix"]),
    ),
    "no output tokens": (
        lines((0, 600, 4), (100_000, 600, 0), (200_000, 600, 4), names=PUBLISHED_BLOCKS),
        Found([0, 100, 200], [(600, 4), (600, 1), (600, 4)], said=["1 of 3 requests have no output tokens"]),
    ),
    "no prompt": (
        lines((0, 600, 4), (100_000, 0, 0), (200_000, 600, 4), names=[[1, 2], [], [1, 4]]),
        Found([0, 200], [(600, 4), (600, 4)], said=["1 of 3 requests have no prompt"]),
    ),
    "qwen-bailian: seconds, blocks of 16": (
        lines((0.5, 40, 4), (70.25, 33, 2), names=[[7, 8, 9], [7, 8, 10]]),
        Found([0, 69.75], [(40, 4), (33, 2)], 16, ["taken for seconds", "blocks of 16 tokens"]),
    ),
    "only whole blocks have names": (
        lines((0, 600, 4), (90_000, 1100, 4), names=[[1], [1, 2]]),
        Found([0, 90], [(600, 4), (1100, 4)], said=["whole blocks of 512 tokens"]),
    ),
    "names that are texts or too large": (
        lines((0, 600, 4), (90_000, 600, 4), names=[["a", 1 << 60], ["a", "b"]]),
        Found([0, 90], [(600, 4), (600, 4)]),
    ),
    "out of order, as one JSON list": (
        "[" + lines((90_000, 600, 5), (0, 600, 4), names=PUBLISHED_BLOCKS[:2]).strip().replace("\n", ",") + "]",
        Found([0, 90], [(600, 4), (600, 5)]),
    ),
    "BurstGPT 1": (
        BURST + "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n"
        "118,GPT-4,417,276,693,Conversation log\n",
        Found([0, 40, 113], [(472, 18), (1087, 1), (417, 276)], said=["1 of 3 requests have no output", "no prefix"]),
    ),
    "BurstGPT 2, with sessions and one that failed": (
        BURST_2 + "5,7,1.5,ChatGPT,472,18,490,Conversation log\n6,7,0.1,ChatGPT,0,0,0,Conversation log\n",
        Found([0], [(472, 18)], said=["1 of 2 requests have no prompt", "no prefix"]),
    ),
    "Azure 2023: seven digits of a second, Windows lines": (
        AZURE + "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:16:50.9951690,396,109\r\n",
        Found([0, 64.314579], [(374, 44), (396, 109)], said=["no prefix"]),
    ),
    "Azure 2024: with an offset": (
        AZURE + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:01:30.017335+00:00,2399,6\n",
        Found([0, 90.007405], [(2162, 5), (2399, 6)], said=["no prefix"]),
    ),
    "Vidur": (
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,591,140\n75.125,547,248\n",
        Found([0, 75.125], [(591, 140), (547, 248)], said=["no prefix"]),
    ),
    "Mooncake's fields as a table": (
        "timestamp,input_length,output_length\n0,100,4\n90000,200.0,5\n",
        Found([0, 90], [(100, 4), (200, 5)], said=["no prefix"]),
    ),
}


def written(folder: Path, text: str, name: str = "trace") -> TraceFile:
    path = folder / name
    path.write_bytes(text.encode())
    return TraceFile(path)


def replayed(trace: Trace) -> tuple[list[float], list[tuple[int, int]]]:
    made = requests(trace.rows, block_tokens=trace.block_tokens)
    return [request.at_s for request in made], [(request.input_tokens, request.output_tokens) for request in made]


@pytest.mark.parametrize("name", READ)
def test_a_trace_is_read_as_its_format_means_it(name: str, tmp_path: Path) -> None:
    text, expected = READ[name]
    trace = read(written(tmp_path, text), seed=0)

    times, lengths = replayed(trace)
    assert times == pytest.approx(expected.times, abs=1e-6)
    assert (lengths, trace.block_tokens) == (expected.lengths, expected.block_tokens)
    assert len(trace.notes) == len(expected.said), trace.notes
    assert all(words in note for words, note in zip(expected.said, trace.notes, strict=True)), trace.notes


@pytest.mark.parametrize("name", READ)
def test_prompts_share_what_their_names_say(name: str, tmp_path: Path) -> None:
    text, _ = READ[name]
    trace = read(written(tmp_path, text), seed=0)

    hashed = "hash_ids" in text
    firsts = [row.hash_ids[0] for row in trace.rows]
    assert (len(set(firsts)) == 1) == (hashed or len(firsts) == 1)
    assert all(len(row.hash_ids) == -(-row.input_length // trace.block_tokens) for row in trace.rows)


def test_a_byte_order_mark_and_gzip_change_nothing(tmp_path: Path) -> None:
    text, expected = READ["Azure 2023: seven digits of a second, Windows lines"]
    (tmp_path / "packed").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))

    assert replayed(read(TraceFile(tmp_path / "packed"), seed=0))[1] == expected.lengths


def test_what_is_told_is_not_guessed(tmp_path: Path) -> None:
    path = written(tmp_path, lines((0, 600, 4), (100, 600, 4), names=PUBLISHED_BLOCKS[:2])).path
    trace = read(TraceFile(path, Unit.SECONDS, 300), seed=0)

    assert (replayed(trace)[0], trace.block_tokens, trace.notes) == ([0.0, 100.0], 300, ())


REFUSED: dict[str, tuple[str, str]] = {
    "nothing": ("", "has no requests"),
    "blank": ("\n \n", "has no requests"),
    "a header alone": (AZURE, "has no requests"),
    "an empty list": ("[]", "has no requests"),
    "only prompts of nothing": (lines((0, 0, 0)), "has no requests with prompts"),
    "a column is missing": ("TIMESTAMP,ContextTokens\n1,2\n", "no column 'generatedtokens': its columns are TIMESTAMP"),
    "no table at all": ("hello\nworld\n", "its columns are hello. Known are BurstGPT's timestamp, request tokens"),
    "a cell is no number": (AZURE + "1,two,3\n", "line 2: contexttokens is 'two', not a number of tokens"),
    "half a token": (AZURE + "1,2.5,3\n", "line 2: contexttokens is '2.5'"),
    "no time": (BURST + "soon,ChatGPT,1,2,3,x\n", "line 2: timestamp is 'soon', not a time"),
    "a short row": (BURST + "5,ChatGPT\n", "line 2 has 2 columns"),
    "dates and numbers": (AZURE + "1,2,3\n2023-11-16 18:15:46,2,3\n", "line 3: timestamp mixes numbers and dates"),
    "an odd number of names": (
        lines((0, 600, 4), (9, 600, 4), names=[[1, 2], [1]]),
        "line 2: hash_ids has 1 entries, but 600 tokens are 2 blocks of 512",
    ),
    "aiperf's texts": ('{"timestamp": 0, "text_input": "hello"}\n', "input_length is missing; text_input is not read"),
    "half a line": ('{"timestamp": 0,\n', "line 1 is not JSON"),
    "a list of numbers": ("[1, 2]", "line 1 is not a JSON object, but int"),
    "an unknown speaker": ('[{"conversations": [{"from": "me", "value": "x"}]}]', "message 1: from is 'me'"),
    "only questions": ('[{"conversations": [{"from": "human", "value": "x"}]}]', "no conversation in which"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_refused_with_its_line_and_column(name: str, tmp_path: Path) -> None:
    text, sentence = REFUSED[name]
    with pytest.raises(TraceError) as refused:
        read(written(tmp_path, text), seed=0)
    assert sentence in str(refused.value)


SHARED: dict[str, list[dict[str, Any]]] = {
    "ShareGPT": [
        {"id": "a", "conversations": [
            {"from": "system", "value": "Be brief."}, {"from": "human", "value": "What is a lease?"},
            {"from": "gpt", "value": "A right to use something."}, {"from": "human", "value": "And a block?"},
            {"from": "gpt", "value": "A run of tokens."}]},
        {"id": "b", "conversations": [
            {"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hi"}]},
        {"id": "c", "conversations": [{"from": "gpt", "value": "Hello?"}]},
    ],
    "OpenAI": [
        {"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a lease?"},
            {"role": "assistant", "content": [{"type": "text", "text": "A right to use something."}]},
            {"role": "user", "content": "And a block?"}, {"role": "assistant", "content": "A run of tokens."}]},
        {"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hi"}]},
        {"messages": [{"role": "assistant", "content": None}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("as_lines", [False, True])
def test_texts_become_turns_that_share_what_is_equal(name: str, as_lines: bool, tmp_path: Path) -> None:
    documents = SHARED[name]
    text = "\n".join(json.dumps(each) for each in documents) if as_lines else json.dumps(documents, indent=1)
    trace = read(written(tmp_path, text), seed=0)

    brief, lease, right = Span(0, 3), Span(1, 4), Span(2, 7)
    first, second = trace.conversations
    assert first.turns[0] == ((brief, lease), right)
    assert first.turns[1] == ((Span(3, 3),), Span(4, 4))
    assert second.turns[0][0][0] == brief
    assert any("4 bytes a token" in note for note in trace.notes)
    assert any("1 of 3 conversations have no answered prompt" in note for note in trace.notes)


def test_a_tokenizer_counts_where_there_is_one(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    path = written(tmp_path, json.dumps(SHARED["ShareGPT"])).path
    trace = read(TraceFile(path, tokenizer=tmp_path), seed=0)

    assert trace.conversations[0].turns[0] == ((Span(0, 2), Span(1, 4)), Span(2, 5))
    assert not any("bytes a token" in note for note in trace.notes)
