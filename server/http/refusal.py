"""Errors as answers, for what is refused before the application is asked."""

import json
import uuid

from starlette.types import Receive, Scope, Send

from server.api.error_answers import error_answer
from server.api.wire import error_body
from server.errors import ApiError


def raw_answer(error: ApiError) -> bytes:
    """A whole answer, after which the connection closes."""
    body = json.dumps(error_body(error)).encode()
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        "x-request-id": uuid.uuid4().hex,
        **error.headers,
    }
    lines = [f"HTTP/1.1 {error.status.value} {error.status.phrase}"]
    lines += [f"{name.lower()}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """The answer of a middleware."""
    scope["state"]["facts"]["error"] = error.code
    await error_answer(scope["path"], error)(scope, receive, send)
