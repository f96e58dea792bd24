"""Bytes of a request body to a validated request, with errors that name the field.

Our own parsing: FastAPI's answers 500 for NaN and lone surrogates, and echoes inputs.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from server.api.schemas import (
    ChatCompletionRequest,
    ImageContent,
    Message,
    SamplingFields,
    TextContent,
    VideoContent,
    VideoUrl,
    Wire,
)
from server.api.tool_grammar import check_tools
from server.api.turns import check_turn
from server.api.unsupported import refuse_unsupported
from server.errors import ApiError, InvalidRequestError

W = TypeVar("W", bound=Wire)
_MAX_LISTED = 3
_MAX_MESSAGE_CHARS = 600
_MAX_DEPTH = 64
_MAX_FIELDS = 1_000
_PART_TAGS = {"text", "input_text", "image_url", "input_image", "video_url", "input_video"}
_MAX_NAME_CHARS = 64
_CLIENTS_OWN = (("logit_bias",), ("tool_choice",), ("metadata",))
_INVALID_TYPE = {"content_type", "model_attributes_type", "int_from_float"}


def parse_chat_request(body: bytes) -> ChatCompletionRequest:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    return chat_request(parse_json(body))


def chat_request(content: dict[str, Any]) -> ChatCompletionRequest:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    refuse_unsupported(content)
    request = validated(ChatCompletionRequest, content)
    _check_combinations(request)
    check_tools(request)
    for index, message in enumerate(request.messages):
        _check_message(message, f"messages[{index}]")
    return request


def validated(kind: type[W], content: dict[str, Any]) -> W:
    """The content as a wire type. Raises InvalidRequestError."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _explain(error) from None


# ------------------------------------------------------------------ JSON


def parse_json(body: bytes) -> dict[str, Any]:
    """Strict JSON: UTF-8, no NaN, no lone surrogates, no duplicate names, bounded depth."""
    try:
        content = from_json(body, allow_inf_nan=False)
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError):
        raise _invalid_json("The body is not valid JSON.") from None
    if not isinstance(content, dict):
        raise InvalidRequestError("The body must be a JSON object.", code="invalid_type")
    if len(content) > _MAX_FIELDS:
        raise InvalidRequestError("The body has too many fields.", code="invalid_value")
    if _is_deeper(content, _MAX_DEPTH):
        raise _invalid_json("The body is nested too deeply.")
    return content


def _invalid_json(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_json")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _invalid_json("A name appears twice in one JSON object.")


def _is_deeper(value: Any, levels: int) -> bool:
    """Iterative, so that depth cannot exhaust the stack."""
    layer = [value]
    for _ in range(levels):
        layer = [child for item in layer for child in _children(item)]
        if not layer:
            return False
    return True


def _children(item: Any) -> Iterable[Any]:
    children = item.values() if isinstance(item, dict) else item
    return (child for child in children if isinstance(child, dict | list))


# ------------------------------------------------------------------ fields together


def check_sampling(request: SamplingFields) -> None:
    """What fields that chat and text completions share rule out in each other."""
    if request.stream_options is not None and not request.stream:
        raise _combination("stream_options", "stream_options needs stream to be true.")
    if request.num_top_prompt_logprobs is not None and request.stream:
        raise _combination(
            "prompt_logprobs", "prompt_logprobs come with a whole answer; they cannot be streamed."
        )
    limit = request.num_wanted_tokens
    if limit is not None and (request.min_tokens or 0) > limit:
        raise InvalidRequestError(
            "min_tokens exceeds max_tokens.", param="min_tokens", code="invalid_value"
        )


def _check_combinations(request: ChatCompletionRequest) -> None:
    if len({request.max_tokens, request.max_completion_tokens} - {None}) > 1:
        raise _combination(
            "max_completion_tokens",
            "max_tokens and max_completion_tokens differ; send one of them.",
        )
    if request.top_logprobs and not request.logprobs:
        raise _combination("top_logprobs", "top_logprobs needs logprobs to be true.")
    if request.continue_final_message:
        _check_continuation(request)
    check_sampling(request)


def _combination(param: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=param, code="invalid_parameter_combination")


def _check_continuation(request: ChatCompletionRequest) -> None:
    last = request.messages[-1]
    if request.add_generation_prompt:
        raise InvalidRequestError(
            "add_generation_prompt begins a new message and continue_final_message the last one; "
            "send one of them.",
            param="continue_final_message",
            code="invalid_parameter_combination",
        )
    if last.role != "assistant" or not any(getattr(part, "text", "") for part in last.parts):
        raise InvalidRequestError(
            "continue_final_message needs the beginning of an assistant's message at the end.",
            param="continue_final_message",
            code="invalid_value",
        )


def _check_message(message: Message, path: str) -> None:
    check_turn(message, path)
    for index, part in enumerate(message.parts):
        part_path = f"{path}.content[{index}]"
        if isinstance(part, TextContent):
            continue
        if message.role != "user":
            raise InvalidRequestError(
                "Images and videos belong in user messages.", param=part_path, code="invalid_value"
            )
        _check_media_part(part, part_path)


def _check_media_part(part: ImageContent | VideoContent, path: str) -> None:
    other = "video_url" if isinstance(part, ImageContent) else "image_url"
    if other in (part.model_extra or {}):
        raise InvalidRequestError(
            f"A part of type {part.type} has no {other}.", param=path, code="invalid_value"
        )
    if isinstance(part, VideoContent):
        _check_video(part.video_url, path)


def _check_video(video: VideoUrl, path: str) -> None:
    if video.start is not None and video.end is not None and video.end <= video.start:
        raise InvalidRequestError(
            "end must be greater than start.",
            param=f"{path}.video_url.end",
            code="invalid_value",
        )
    if video.num_frames is not None and video.fps is not None:
        raise InvalidRequestError(
            "num_frames and fps exclude each other; send one of them.",
            param=f"{path}.video_url.fps",
            code="invalid_parameter_combination",
        )


# ------------------------------------------------------------------ errors


def _explain(error: ValidationError) -> ApiError:
    """The first few problems; inputs are never echoed."""
    problems = error.errors(include_url=False, include_input=False)
    lines = [_line(problem) for problem in problems[:_MAX_LISTED]]
    if len(problems) > _MAX_LISTED:
        lines.append(f"and {len(problems) - _MAX_LISTED} more")
    return InvalidRequestError(
        "; ".join(lines)[:_MAX_MESSAGE_CHARS],
        param=_param(problems[0]),
        code=_code(problems[0]["type"]),
    )


def _line(problem: ErrorDetails) -> str:
    if problem["type"] == "union_tag_invalid":
        tags = sorted(re.findall(r"'#?(\w+)'", problem["ctx"]["expected_tags"]))
        return f"{_param(problem)}: Input should be one of {', '.join(tags)}"
    if problem["type"] == "union_tag_not_found":
        return f"{_param(problem)}: Field required"
    if problem["type"] == "extra_forbidden":
        return f"{_param(problem)}: This field is not supported"
    return f"{_param(problem)}: {problem['msg']}"


def _code(kind: str) -> str:
    if kind in ("missing", "union_tag_not_found"):
        return "missing_required_parameter"
    if kind == "extra_forbidden":
        return "unsupported_parameter"
    return "invalid_type" if kind.endswith("_type") or kind in _INVALID_TYPE else "invalid_value"


def _param(problem: ErrorDetails) -> str:
    """pydantic's location as `messages[0].content[1].image_url.url`, without union tags.

    Tags are those of chat's parts, and whatever begins with `#`.
    """
    loc = problem["loc"]
    if loc[:1] in _CLIENTS_OWN:  # what follows is no name of ours
        return str(loc[0])
    if problem["type"] == "extra_forbidden":
        name = ascii(loc[-1])[1:-1][:_MAX_NAME_CHARS]
        return f"{path}.{name}" if (path := _path(loc[:-1])) else name
    path = _path(loc)
    return f"{path}.type" if problem["type"].startswith("union_tag") else path


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for index, step in enumerate(loc):
        if isinstance(step, int):
            path += f"[{step}]"
        elif not _is_tag(step, loc[index - 1] if index else ""):
            path += f".{step}" if path else step
    return path


def _is_tag(step: str, before: str | int) -> bool:
    return step.startswith("#") or (step in _PART_TAGS and isinstance(before, int))
