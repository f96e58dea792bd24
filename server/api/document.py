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
        return content

    app.openapi = openapi  # type: ignore[method-assign]


def _in_path(name: str) -> dict[str, Any]:
    """Handlers read it from the request; FastAPI sees no parameter of theirs."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
