"""POST /v1/messages → a chat request: bytes to wire types, wire types to our own words."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from server.api.conversation import Conversation, PlacedPart, Translated, text_part
from server.api.messages.schemas import (
    Base64Source,
    ImageBlock,
    MessagesPrompt,
    MessagesRequest,
    TextBlock,
    ToolChoice,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    Turn,
    VideoBlock,
)
from server.api.parse import parse_json, validated
from server.api.unsupported import without_idle
from server.errors import InvalidRequestError

# Names that are not ours, with the values that ask for nothing.
_IDLE: dict[str, tuple[Any, ...]] = {
    "container": (),
    "context_management": ({},),
    "inference_geo": (),
    "mcp_servers": ([],),
    "speed": ("standard",),
    "thinking": ({"type": "disabled"},),
}
_SAME = (
    "model",
    "max_tokens",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "priority",
    "cache_salt",
)
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_NAMES = {
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "response_format.json_schema": "output_config.format",
    "tool_choice.function": "tool_choice",
}

P = TypeVar("P", bound=MessagesPrompt)


@dataclass(frozen=True, slots=True)
class Asked(Generic[P]):
    """A request as the client wrote it, and in our own words."""

    wire: P
    translated: Translated


def parse_messages_request(body: bytes) -> Asked[MessagesRequest]:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    return _asked(MessagesRequest, body)


def parse_messages_prompt(body: bytes) -> Asked[MessagesPrompt]:
    """Raises InvalidRequestError or UnsupportedParameterError."""
    return _asked(MessagesPrompt, body)


def _asked(kind: type[P], body: bytes) -> Asked[P]:
    wire = validated(kind, without_idle(parse_json(body), _IDLE))
    translated = _conversation(wire).translated(_fields(wire), _names(wire))
    translated.check_results()
    return Asked(wire, translated)


def _conversation(wire: MessagesPrompt) -> Conversation:
    conversation = Conversation()
    if wire.system is not None:
        parts = (text_part(b.text, f"system[{i}]") for i, b in enumerate(wire.system))
        conversation.add("system", "system", parts)
    for index, turn in enumerate(wire.messages):
        path = f"messages[{index}]"
        if turn.role == "assistant":
            _add_assistant(conversation, turn, path)
        else:
            _add_turn(conversation, turn, path)
    return conversation


def _add_assistant(conversation: Conversation, turn: Turn, path: str) -> None:
    """Its text, then its calls."""
    parts: list[PlacedPart] = []
    calls: list[tuple[ToolUseBlock, str]] = []
    for index, block in enumerate(turn.content):
        place = f"{path}.content[{index}]"
        if isinstance(block, ToolUseBlock):
            calls.append((block, place))
        elif isinstance(block, ToolResultBlock):
            raise _misplaced("tool_result blocks belong in messages of the user.", place)
        elif not isinstance(block, TextBlock):
            raise _misplaced("Images and videos belong in messages of the user.", place)
        else:
            parts.append(_part(block, place))
    if parts:
        conversation.add("assistant", path, parts)
    for call, place in calls:
        arguments = json.dumps(call.input, ensure_ascii=False)
        conversation.add_call(call.id, call.name, arguments, place, f"{place}.input")


def _add_turn(conversation: Conversation, turn: Turn, path: str) -> None:
    """The user's: results of calls are turns of their own, in their order."""
    parts: list[PlacedPart] = []
    for index, block in enumerate(turn.content):
        place = f"{path}.content[{index}]"
        if isinstance(block, ToolUseBlock):
            raise _misplaced("tool_use blocks belong in messages of the assistant.", place)
        if not isinstance(block, ToolResultBlock):
            parts.append(_part(block, place))
            continue
        if turn.role != "user":
            raise _misplaced("tool_result blocks belong in messages of the user.", place)
        if parts:
            conversation.add(turn.role, path, parts)
            parts = []
        conversation.add_result(
            block.tool_use_id, place, f"{place}.tool_use_id", _result(block, place)
        )
    if parts:
        conversation.add(turn.role, path, parts)


def _result(block: ToolResultBlock, place: str) -> Iterator[PlacedPart]:
    """The model is told of errors in words."""
    yield text_part("Error: " if block.is_error else "", place)
    for index, part in enumerate(block.content or ()):
        yield text_part(part.text, f"{place}.content[{index}]")


def _part(block: TextBlock | ImageBlock | VideoBlock, place: str) -> PlacedPart:
    """The URL's field holds its bounds in chat; here they stand beside the source."""
    if isinstance(block, TextBlock):
        return text_part(block.text, place)
    kind = "image_url" if isinstance(block, ImageBlock) else "video_url"
    bounds = block.model_dump(exclude={"type", "source", "cache_control"}, exclude_none=True)
    content = {"type": kind, kind: {"url": _url(block), **bounds}}
    return PlacedPart(content, place, url_path=f"{place}.source")


def _url(block: ImageBlock | VideoBlock) -> str:
    source = block.source
    if isinstance(source, Base64Source):
        return f"data:{source.media_type};base64,{source.data}"
    return source.url


def _misplaced(message: str, place: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=place, code="invalid_value")


def _fields(wire: MessagesPrompt) -> dict[str, Any]:
    """Those beside the messages."""
    choice = wire.tool_choice
    last = wire.messages[-1]
    return {
        **{name: getattr(wire, name, None) for name in _SAME},
        "stop": getattr(wire, "stop_sequences", None),
        "response_format": _response_format(wire),
        "tools": None if wire.tools is None else [_tool(tool) for tool in wire.tools],
        "tool_choice": None if choice is None else _tool_choice(choice),
        "parallel_tool_calls": False if choice and choice.disable_parallel_tool_use else None,
        "continue_final_message": _is_begun(last, f"messages[{len(wire.messages) - 1}]") or None,
    }


def _is_begun(last: Turn, path: str) -> bool:
    """The answer goes on with what the assistant's last message begins."""
    if last.role != "assistant":
        return False
    if any(isinstance(block, ToolUseBlock) for block in last.content):
        raise _misplaced("The results of its calls must follow this message.", path)
    if not any(block.text for block in last.content if isinstance(block, TextBlock)):
        raise _misplaced("There is nothing in this message that an answer could go on from.", path)
    return True


def _names(wire: MessagesPrompt) -> dict[str, str]:
    names = dict(_NAMES)
    for index in range(len(wire.tools or ())):
        names[f"tools[{index}].function"] = f"tools[{index}]"
        names[f"tools[{index}].function.parameters"] = f"tools[{index}].input_schema"
    return names


def _response_format(wire: MessagesPrompt) -> dict[str, Any] | None:
    wish = wire.output_config.format if wire.output_config else None
    if wish is None:
        return None
    return {"type": "json_schema", "json_schema": {"schema": wish.json_schema}}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    given = tool.model_dump(include={"name", "description", "strict"}, exclude_none=True)
    return {"type": "function", "function": {**given, "parameters": tool.input_schema}}


def _tool_choice(choice: ToolChoice) -> Any:
    if choice.type != "tool":
        return _CHOICES[choice.type]
    if choice.name is None:
        raise InvalidRequestError(
            "Field required: which tool.",
            param="tool_choice.name",
            code="missing_required_parameter",
        )
    return {"type": "function", "function": {"name": choice.name}}
