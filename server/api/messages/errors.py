"""Errors in Anthropic's shape, on Anthropic's routes."""

from typing import Any

from server.errors import ApiError

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}


def is_messages_path(path: str) -> bool:
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def messages_error(error: ApiError) -> dict[str, Any]:
    """There is no field for the path, so the message begins with it."""
    default = "invalid_request_error" if error.status < 500 else "api_error"
    kind = _TYPES.get(error.status, default)
    return {"type": "error", "error": {"type": kind, "message": _message(error)}}


def _message(error: ApiError) -> str:
    if error.param is None or error.message.startswith(error.param):
        return error.message
    return f"{error.param}: {error.message}"
