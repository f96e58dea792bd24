"""POST /v1/responses → a chat request: bytes to wire types, wire types to our own words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from server.api.conversation import INSTRUCTIONS, Conversation, PlacedPart, Translated, text_part
from server.api.parse import parse_json, validated
from server.api.responses.schemas import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputImage,
    InputPart,
    InputVideo,
    MessageItem,
    NamedFunction,
    OutputText,
    ResponsesRequest,
    SchemaFormat,
)
from server.api.unsupported import without_idle
from server.errors import InvalidRequestError

# Names that are not ours, with the values that ask for nothing.
_IDLE: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "include": ([], ["reasoning.encrypted_content"]),
    "max_tool_calls": (),
    "moderation": (),
    "prompt": (),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("in_memory",),
    "reasoning": ({}, {"effort": "none"}, {"effort": None, "summary": None}),
    "stream_options": ({}, {"include_obfuscation": False}),
    "top_logprobs": (0,),
}
_SAME = ("model", "stream", "temperature", "top_p", "top_k", "seed", "priority", "cache_salt")
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "tool_choice": "tool_choice",
    "tool_choice.function": "tool_choice",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the client wrote it, and in our own words."""

    wire: ResponsesRequest
    translated: Translated


def parse_responses_request(body: bytes) -> Asked:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    return responses_request(parse_json(body))


def responses_request(content: dict[str, Any]) -> Asked:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    wire = validated(ResponsesRequest, without_idle(content, _IDLE))
    return Asked(wire, _conversation(wire).translated(_fields(wire), _names(wire)))


def _conversation(wire: ResponsesRequest) -> Conversation:
    conversation = Conversation()
    if wire.instructions is not None:
        part = text_part(wire.instructions, INSTRUCTIONS)
        conversation.add("system", INSTRUCTIONS, [part])
    for index, item in enumerate(wire.input):
        path = f"input[{index}]"
        if isinstance(item, MessageItem):
            _add_message(conversation, item, path)
        elif isinstance(item, FunctionCallItem):
            conversation.add_call(
                item.call_id, item.name, item.arguments, path, f"{path}.arguments"
            )
        else:
            _add_output(conversation, item, path)
    return conversation


def _add_message(conversation: Conversation, item: MessageItem, path: str) -> None:
    for index, part in enumerate(item.content):
        if isinstance(part, OutputText) and item.role != "assistant":
            raise InvalidRequestError(
                "output_text belongs in messages of the assistant.",
                param=f"{path}.content[{index}]",
                code="invalid_value",
            )
    conversation.add(item.role, path, _parts(item.content, f"{path}.content"))


def _add_output(conversation: Conversation, item: FunctionCallOutputItem, path: str) -> None:
    parts = _parts(item.output, f"{path}.output")
    conversation.add_result(item.call_id, path, f"{path}.call_id", parts)


def _parts(parts: list[InputPart], path: str) -> Iterator[PlacedPart]:
    for index, part in enumerate(parts):
        place = f"{path}[{index}]"
        if isinstance(part, InputImage | InputVideo):
            yield _media(part, place)
        else:
            yield text_part(part.text, place)


def _media(part: InputImage | InputVideo, place: str) -> PlacedPart:
    """The URL's field holds its bounds in chat; here they stand beside it."""
    kind = "image_url" if isinstance(part, InputImage) else "video_url"
    bounds = part.model_dump(exclude={"type", kind}, exclude_none=True)
    url = part.image_url if isinstance(part, InputImage) else part.video_url
    content = {"type": kind, kind: {"url": url, **bounds}}
    return PlacedPart(content, place, url_path=f"{place}.{kind}")


def _fields(wire: ResponsesRequest) -> dict[str, Any]:
    """Those beside the messages."""
    return {
        **{name: getattr(wire, name) for name in _SAME},
        "max_completion_tokens": wire.max_output_tokens,
        "response_format": _response_format(wire),
        "tools": None if wire.tools is None else [_tool(tool.model_dump()) for tool in wire.tools],
        "tool_choice": _tool_choice(wire.tool_choice),
        "parallel_tool_calls": wire.parallel_tool_calls,
    }


def _names(wire: ResponsesRequest) -> dict[str, str]:
    count = len(wire.tools or ())
    return _NAMES | {f"tools[{index}].function": f"tools[{index}]" for index in range(count)}


def _response_format(wire: ResponsesRequest) -> dict[str, Any] | None:
    wish = wire.text.format if wire.text else None
    if wish is None:
        return None
    if not isinstance(wish, SchemaFormat):
        return {"type": wish.type}
    described = wish.model_dump(by_alias=True, exclude_none=True, exclude={"type"})
    return {"type": "json_schema", "json_schema": described}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: str | NamedFunction | None) -> Any:
    if isinstance(choice, NamedFunction):
        return {"type": "function", "function": {"name": choice.name}}
    return choice
