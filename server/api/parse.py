"""Bytes of a request body to a validated request, with errors that name the field.

Our own parsing: FastAPI's answers 500 for NaN and lone surrogates, and echoes inputs.
"""

from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from server.api.schemas import (
    MAX_STOP_CHARS,
    MAX_STOP_STRINGS,
    ChatCompletionRequest,
)
from server.errors import ApiError, InvalidRequestError, UnsupportedParameterError

_MAX_LISTED = 3
_MAX_DEPTH = 64
# Fields that change the answer's meaning and are not supported: name → the values that ask
# for nothing and are therefore fine.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "grammar": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1, 1.0),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "prompt_logprobs": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "return_token_ids": (False,),
    "skip_special_tokens": (True,),
    "structured_outputs": (),
    "tool_choice": ("none",),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def parse_chat_request(body: bytes) -> ChatCompletionRequest:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    content = _parse_json(body)
    _refuse_unsupported(content)
    try:
        request = ChatCompletionRequest.model_validate(content)
    except ValidationError as error:
        raise _explain(error) from None
    _check_combinations(request)
    return request


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequestError("The body is not valid JSON.", code="invalid_json") from error
    if not isinstance(content, dict):
        raise InvalidRequestError("The body must be a JSON object.", code="invalid_json")
    if _is_deeper(content, _MAX_DEPTH):
        raise InvalidRequestError("The body is nested too deeply.", code="invalid_json")
    return content


def _is_deeper(value: Any, levels: int) -> bool:
    """Iterative, so that depth cannot exhaust the stack."""
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for item in layer
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return False
    return True


def _refuse_unsupported(content: dict[str, Any]) -> None:
    for name in content.keys() & _UNSUPPORTED.keys():
        value = content[name]
        if value is not None and not any(_same(value, fine) for fine in _UNSUPPORTED[name]):
            raise UnsupportedParameterError(
                f"{name} is not supported by this server yet.", param=name
            )


def _same(value: Any, fine: Any) -> bool:
    """Equal, and a boolean only to a boolean (in Python True == 1)."""
    return value == fine and isinstance(value, bool) == isinstance(fine, bool)


def _check_combinations(request: ChatCompletionRequest) -> None:
    both = (request.max_tokens, request.max_completion_tokens)
    if None not in both and both[0] != both[1]:
        raise InvalidRequestError(
            "max_tokens and max_completion_tokens differ; send one of them.",
            param="max_completion_tokens",
        )
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError("stream_options needs stream to be true.", param="stream_options")
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stop) > MAX_STOP_STRINGS or any(not 0 < len(s) <= MAX_STOP_CHARS for s in stop):
        raise InvalidRequestError(
            f"stop takes at most {MAX_STOP_STRINGS} strings of 1 to {MAX_STOP_CHARS} characters.",
            param="stop",
        )
    if request.top_k == 0:
        raise InvalidRequestError("top_k must be -1 (all) or at least 1.", param="top_k")


def _explain(error: ValidationError) -> ApiError:
    """The first few problems; inputs are never echoed."""
    problems = error.errors(include_url=False, include_input=False, include_context=True)
    lines = [f"{_path(p['loc']) or 'body'}: {p['msg']}" for p in problems[:_MAX_LISTED]]
    if len(problems) > _MAX_LISTED:
        lines.append(f"and {len(problems) - _MAX_LISTED} more")
    return InvalidRequestError("; ".join(lines)[:1000], param=_path(problems[0]["loc"]) or None)


_UNION_TAGS = {"str", "text", "input_text", "image_url", "input_image", "video_url", "input_video"}


def _path(loc: tuple[int | str, ...]) -> str:
    """pydantic's location as `messages[0].content[1].image_url.url`, without union tags."""
    path = ""
    for index, part in enumerate(loc):
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.startswith(("list[", "function-", "str")) or _is_tag(loc, index):
            continue
        else:
            path += f".{part}" if path else part
    return path


def _is_tag(loc: tuple[int | str, ...], index: int) -> bool:
    """A discriminator's value directly behind a list index."""
    return index > 0 and isinstance(loc[index - 1], int) and loc[index] in _UNION_TAGS
