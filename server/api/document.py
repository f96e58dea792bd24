"""The OpenAPI document: the request bodies' types, which FastAPI does not see.

Bodies are parsed by our own strict parser, so their schemas are put in here.
"""

import re
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from server.api.batches.schemas import BatchRequest
from server.api.completions.schemas import CompletionRequest
from server.api.messages.schemas import MessagesPrompt, MessagesRequest
from server.api.responses.schemas import ResponsesRequest
from server.api.schemas import ChatCompletionRequest, DetokenizeRequest, TokenizeRequest

_BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatCompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": MessagesPrompt,
    "/v1/completions": CompletionRequest,
    "/v1/batches": BatchRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
_UPLOAD = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": ["batch"]},
    },
}
_STREAMED = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions")
_PROBES = ("/livez", "/readyz", "/health")
_TEXTS = {"/metrics": "text/plain", "/v1/files/{file_id}/content": "application/octet-stream"}
_WORD: dict[str, Any] = {"type": ["string", "null"]}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": _WORD,
                "param": _WORD,
                "code": _WORD,
            },
        }
    },
}
_ANTHROPIC_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {"type": "object", "required": ["type", "message"]},
    },
}
_NAMES = re.compile(r"\{(\w+)\}")
_SUMMARIES = {
    "/v1/chat/completions": "Answer a conversation with text, images and videos",
    "/v1/responses": "Answer input items, or go on from an earlier answer",
}


def document(app: FastAPI) -> None:
    make = app.openapi

    def openapi() -> dict[str, Any]:
        content = make()
        schemas = content.setdefault("components", {}).setdefault("schemas", {})
        for path, kind in _BODIES.items():
            schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            operation = content["paths"][path]["post"]
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": schema}},
            }
            operation["summary"] = _SUMMARIES.get(path, operation["summary"])
        content["paths"]["/v1/files"]["post"]["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": _UPLOAD}},
        }
        for path, operations in content["paths"].items():
            for operation in operations.values():
                operation["parameters"] = [_in_path(name) for name in _NAMES.findall(path)]
                operation["responses"] |= _answers(path)
        return content

    app.openapi = openapi  # type: ignore[method-assign]


def _in_path(name: str) -> dict[str, Any]:
    """Handlers read it from the request; FastAPI sees no parameter of theirs."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _answers(path: str) -> dict[str, Any]:
    """What comes beside, or instead of, the 200 with JSON that FastAPI supposes."""
    if path in _PROBES:
        return {"503": {"description": "Not so", "content": _json({"type": "object"})}}
    schema = _ANTHROPIC_ERROR if path.startswith("/v1/messages") else _ERROR
    answers: dict[str, Any] = {"default": {"description": "An error", "content": _json(schema)}}
    if path in _STREAMED:
        content = {**_json({}), "text/event-stream": {"schema": {"type": "string"}}}
        answers["200"] = {"description": "The answer, whole or as events", "content": content}
    if path in _TEXTS:
        content = {_TEXTS[path]: {"schema": {"type": "string"}}}
        answers["200"] = {"description": "Text", "content": content}
    return answers


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
