"""Tool calls as a grammar: what must be called is called, and with arguments that fit.

One rule a function, so that each schema stays the root that its `$ref`s mean.
"""

import json
from typing import Any

from server.api.schemas import ChatCompletionRequest, NamedTool, Tool
from server.errors import InvalidRequestError
from server.prompt.tools import CALL_BEGIN, CALL_END

# As Python's json.dumps spaces it. Free white space would let a model write it for ever.
JSON_STYLE: dict[str, Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
_ANY_OBJECT = {"type": "object"}
_OPENING = {"additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf"}


def tool_grammar(request: ChatCompletionRequest, marks_are_tokens: bool) -> str:
    """Lark; empty when the model may write what it likes.

    That is so unless a call is demanded, a function is `strict`, or one call is all.
    `marks_are_tokens`: the vocabulary has the call's marks, as Qwen's has.
    """
    tools = _callable(request)
    is_demanded = request.tool_choice not in (None, "auto")
    is_single = request.parallel_tool_calls is False or isinstance(request.tool_choice, NamedTool)
    if not tools or not (is_demanded or is_single or any(t.function.strict for t in tools)):
        return ""
    calls = "call" if is_single else 'call ("\\n" call)*'
    start = calls if is_demanded else f"TEXT ({calls})?"
    begin, end = (CALL_BEGIN, CALL_END) if marks_are_tokens else _quoted(CALL_BEGIN, CALL_END)
    rules = [rule for index, tool in enumerate(tools) for rule in _rules(index, tool, is_demanded)]
    return "\n".join(
        [
            f"start: {start}",
            f"TEXT: /(?s:.*)/ & ~/(?s:.*{CALL_BEGIN}.*)/" if not is_demanded else "",
            f'call: {begin} "\\n" body "\\n" {end}',
            f"body: {' | '.join(f'f{index}' for index in range(len(tools)))}",
            *rules,
        ]
    )


def _quoted(*texts: str) -> tuple[str, ...]:
    return tuple(f'"{text}"' for text in texts)


def _callable(request: ChatCompletionRequest) -> list[Tool]:
    choice = request.tool_choice
    if not isinstance(choice, NamedTool):
        return request.usable_tools
    return [tool for tool in request.usable_tools if tool.function.name == choice.function.name]


def _rules(index: int, tool: Tool, is_demanded: bool) -> list[str]:
    function = tool.function
    is_bound = is_demanded or function.strict
    schema = {**_ANY_OBJECT, **(_closed(function.parameters or {}) if is_bound else {})}
    beginning = json.dumps(f'{{"name": {json.dumps(function.name)}, "arguments": ')
    return [
        f'f{index}: {beginning} a{index} "}}"',
        f"a{index}: %json {json.dumps(schema | {'x-guidance': JSON_STYLE})}",
    ]


def _closed(parameters: dict[str, Any]) -> dict[str, Any]:
    """A function takes the arguments that are named, unless it says otherwise: else a model could
    go on inventing others."""
    if "properties" not in parameters or parameters.keys() & _OPENING:
        return parameters
    return {**parameters, "additionalProperties": False}


def check_tools(request: ChatCompletionRequest) -> None:
    """Raises InvalidRequestError for tools that do not go together."""
    names = [tool.function.name for tool in request.tools or ()]
    if len(set(names)) < len(names):
        raise InvalidRequestError(
            "Two tools have the same name.", param="tools", code="invalid_value"
        )
    choice = request.tool_choice
    if choice not in (None, "auto", "none") and not names:
        raise InvalidRequestError(
            "tool_choice needs tools to choose from.",
            param="tool_choice",
            code="invalid_parameter_combination",
        )
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise InvalidRequestError(
            "tool_choice names a function that is not among the tools.",
            param="tool_choice.function.name",
            code="invalid_value",
        )
