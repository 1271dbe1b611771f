"""docs/gateway.md names everything that a client can call, send, or be refused."""

from pathlib import Path

from scheduler.vocabulary import WorkerId
from services.gateway.generation import Account
from services.gateway.parameters.aliases import ALIASES
from services.gateway.schemas import ChatBody, CompletionBody
from services.gateway.unsupported import REFUSED
from services.gateway.voices import account_headers
from services.gateway.wishes import TPOT_HEADER, TTFT_HEADER
from tests.services.gateway.conftest import Gateway

PAGE = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text(encoding="utf-8")


async def test_every_endpoint(gateway: Gateway) -> None:
    paths = (await gateway.http.get("/openapi.json")).json()["paths"]
    endpoints = [f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods]
    assert [endpoint for endpoint in endpoints if endpoint not in PAGE] == []
    assert "`POST /reset_prefix_cache`" in PAGE


def test_every_field() -> None:
    fields = {*ChatBody.model_fields, *CompletionBody.model_fields, *REFUSED, *ALIASES}
    assert [field for field in sorted(fields) if f"`{field}`" not in PAGE] == []


def test_every_header() -> None:
    account = Account(prefill=WorkerId("p"), decode=WorkerId("d"), cached_tokens=0)
    headers = [*account_headers(account), TTFT_HEADER, TPOT_HEADER]
    assert [header for header in headers if f"`{header}`" not in PAGE] == []


def test_every_file() -> None:
    files = {path.name for path in (Path(__file__).parents[3] / "services" / "gateway").glob("*.py")}
    untold = {"__init__.py", "main.py", "settings.py", "connection.py", "template_tags.py"}
    assert [name for name in sorted(files - untold) if f"`{name}`" not in PAGE] == []
