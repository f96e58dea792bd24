"""An error as the response to a request, in the shape of the API that the route belongs to."""

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from server.api.messages.errors import is_messages_path, messages_error
from server.api.wire import error_body
from server.errors import ApiError


def error_answer(path: str, error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """`headers`: instead of the error's own."""
    body = messages_error(error) if is_messages_path(path) else error_body(error)
    return JSONResponse(body, error.status, error.headers if headers is None else headers)
