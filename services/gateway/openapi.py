"""openapi.json: the bodies are read by hand, so their schemas are put in by hand too."""

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway import schemas

REFERENCE = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (
    schemas.ChatBody,
    schemas.CompletionBody,
    schemas.TokenizePromptBody,
    schemas.TokenizeChatBody,
    schemas.DetokenizeBody,
)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every answer that is an error."""

    error: ErrorDetail


def takes(*bodies: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route with one of these bodies."""
    references = [{"$ref": REFERENCE.format(model=body.__name__)} for body in bodies]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        kinds: list[tuple[type[BaseModel], Literal["validation"]]] = [(body, "validation") for body in BODIES]
        _, definitions = models_json_schema([*kinds, (ErrorBody, "validation")], ref_template=REFERENCE)
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        error = {"$ref": REFERENCE.format(model=ErrorBody.__name__)}
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"]["default"] = {
                    "description": "An error.",
                    "content": {"application/json": {"schema": error}},
                }
        app.openapi_schema = document
    return app.openapi_schema
