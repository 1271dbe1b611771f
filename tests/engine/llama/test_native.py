"""The C kernels beside torch in float32, at odd sizes: as built, and as a processor without AVX gets them."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import engine.llama.native
from engine.llama.native import Kernels, load_kernels

SOURCES = Path(engine.llama.native.__file__).parent
FLAGS = ("-O1", "-std=gnu11", "-fno-math-errno", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math")


@pytest.fixture(scope="module", params=["as built", "without AVX"])
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    if request.param == "as built":
        built = load_kernels(torch.float32, torch.device("cpu"), 64)
        if built is None:
            pytest.skip("the kernels were not built")
        return built
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("native") / "kernels.so"
    source = str(SOURCES / "kernels.c")
    subprocess.run([compiler, *FLAGS, "-DONE_CLONE", "-shared", "-fPIC", source, "-o", str(library), "-lm"], check=True)
    return Kernels(ctypes.CDLL(str(library)), torch.float32)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 37), (2, 576)])
def test_the_residual_stream_is_added_to_and_normed(kernels: Kernels, rows: int, size: int) -> None:
    x, more, weight, out = noise(rows, size), noise(rows, size), noise(size), torch.empty(rows, size)
    summed = x + more
    kernels.add_and_norm(*(each.data_ptr() for each in (x, more, weight, out)), rows, size, 1e-5)
    near(x, summed)
    near(out, torch.rms_norm(summed, (size,), weight, 1e-5))


@pytest.mark.parametrize(("first", "group", "columns"), [(1, 1, 5), (7, 3, 13), (30, 2, 33)])
def test_a_softmax_sees_what_lies_before_each_query(kernels: Kernels, first: int, group: int, columns: int) -> None:
    rows = (columns - first + 1) * group
    scores, scratch = noise(rows, columns), torch.empty(columns)
    seen = first + torch.arange(rows) // group
    hidden = torch.arange(columns)[None] >= seen[:, None]
    expected = torch.softmax(scores.masked_fill(hidden, float("-inf")), -1)
    kernels.causal_softmax(scores.data_ptr(), rows, columns, group, first, scratch.data_ptr())
    near(scores, expected)


@pytest.mark.parametrize(("kv_heads", "group", "size", "length"), [(1, 1, 2, 1), (2, 3, 64, 37), (1, 7, 96, 16)])
def test_decoding_attends_to_pages_in_any_order(
    kernels: Kernels, kv_heads: int, group: int, size: int, length: int
) -> None:
    block_tokens, order = 8, [4, 1, 3, 0, 2]
    page_tokens = block_tokens * len(order)
    query = noise(kv_heads, 1, group, size)
    keys, values = noise(kv_heads, page_tokens, size), noise(kv_heads, page_tokens, size).neg()
    rows, lengths, table = torch.tensor([0]), torch.tensor([length]), torch.tensor(order)
    scores, out = torch.empty(4 * page_tokens), torch.empty(kv_heads, group, size)
    kernels.attend(
        *(each.data_ptr() for each in (query, keys, values, rows, lengths, table)),
        *(len(order), 1, 1, kv_heads, group, size, page_tokens, block_tokens),
        *(scores.data_ptr(), page_tokens, out.data_ptr()),
    )
    places = [order[token // block_tokens] * block_tokens + token % block_tokens for token in range(length)]
    weights = torch.softmax(query[:, 0] @ keys[:, places].transpose(1, 2), -1)
    near(out, weights @ values[:, places])
