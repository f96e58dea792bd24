"""What each role's message must have."""

import json

from server.api.schemas import Message
from server.errors import InvalidRequestError


def check_turn(message: Message, path: str) -> None:
    """Raises InvalidRequestError. `path`: the message's, such as `messages[0]`."""
    if message.content is None and not message.tool_calls:
        is_missing = "content" not in message.model_fields_set
        raise InvalidRequestError(
            "Field required." if is_missing else "Input should be a string or a list of parts.",
            param=f"{path}.content",
            code="missing_required_parameter" if is_missing else _null_code(message),
        )
    if message.role == "tool" and message.tool_call_id is None:
        raise InvalidRequestError(
            "Field required: the id of the call that this is the result of.",
            param=f"{path}.tool_call_id",
            code="missing_required_parameter",
        )
    if message.tool_calls and message.role != "assistant":
        raise InvalidRequestError(
            "tool_calls belong in messages of the assistant.",
            param=f"{path}.tool_calls",
            code="invalid_value",
        )
    for index, call in enumerate(message.tool_calls or ()):
        _check_arguments(call.function.arguments, f"{path}.tool_calls[{index}].function.arguments")


def _null_code(message: Message) -> str:
    """Null is a legal content beside calls."""
    return "invalid_value" if message.role == "assistant" else "invalid_type"


def _check_arguments(arguments: str, path: str) -> None:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        raise InvalidRequestError(
            "The arguments are not valid JSON.", param=path, code="invalid_value"
        ) from None
