"""Bytes of a text completion's body to a validated request."""

from typing import Any

from server.api.completions.schemas import MAX_ALL_CHOICES, CompletionRequest
from server.api.parse import check_sampling, parse_json, validated
from server.api.unsupported import refuse_unsupported_completion
from server.errors import InvalidRequestError


def parse_completion_request(body: bytes) -> CompletionRequest:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    return completion_request(parse_json(body))


def completion_request(content: dict[str, Any]) -> CompletionRequest:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    refuse_unsupported_completion(content)
    request = validated(CompletionRequest, content)
    check_sampling(request)
    n = request.n or 1
    if request.best_of not in (None, n):
        raise _combination("best_of", "best_of other than n is not supported; leave it out.")
    if request.is_prompt_only and not request.echo:
        raise _combination("max_tokens", "max_tokens may be 0 only when echo is true.")
    if len(request.prompt) * n > MAX_ALL_CHOICES:
        raise InvalidRequestError(
            f"The prompts, n times each, are more than {MAX_ALL_CHOICES} choices.",
            param="n",
            code="invalid_value",
        )
    return request


def _combination(param: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=param, code="invalid_parameter_combination")
