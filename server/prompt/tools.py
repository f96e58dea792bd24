"""Functions that a model may call, in the words that InternVL's text models were trained on.

Qwen2.5 and Qwen3 write calls as Hermes does: JSON between `<tool_call>` and `</tool_call>`. A
checkpoint whose template knows tools renders them itself; for the others this is done here, to
the same effect as Qwen2.5's own template.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from server.prompt.types import CalledFunction, ChatMessage, MediaPart, TextPart

CALL_BEGIN, CALL_END = "<tool_call>", "</tool_call>"
_INTRODUCTION = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>{signatures}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""

Part = TextPart | MediaPart
Tools = Sequence[dict[str, Any]]


def with_tools(messages: Sequence[ChatMessage], tools: Tools) -> list[ChatMessage]:
    """The conversation in plain text turns: signatures, calls and results written out."""
    written = list(_turns(messages))
    if not tools:
        return written
    introduction = _introduction(tools)
    if written and written[0].role == "system":
        parts = [*written[0].parts, TextPart(f"\n\n{introduction}")]
        return [ChatMessage("system", parts), *written[1:]]
    return [ChatMessage("system", [TextPart(introduction)]), *written]


def _introduction(tools: Tools) -> str:
    signatures = "".join(f"\n{json.dumps(tool, ensure_ascii=False)}" for tool in tools)
    return _INTRODUCTION.format(signatures=signatures)


def _turns(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    """Results of calls that follow each other are one turn of the user's."""
    results: list[Part] = []
    for message in messages:
        if message.role == "tool":
            results += _result(message, is_first=not results)
            continue
        if results:
            yield ChatMessage("user", results)
            results = []
        yield _with_calls(message)
    if results:
        yield ChatMessage("user", results)


def _result(message: ChatMessage, *, is_first: bool) -> list[Part]:
    before = "<tool_response>\n" if is_first else "\n<tool_response>\n"
    return [TextPart(before), *message.parts, TextPart("\n</tool_response>")]


def _with_calls(message: ChatMessage) -> ChatMessage:
    if not message.calls:
        return message
    has_text = any(part.text for part in message.parts if isinstance(part, TextPart))
    calls = "\n".join(map(_call, message.calls))
    return ChatMessage(
        message.role, [*message.parts, TextPart(f"\n{calls}" if has_text else calls)]
    )


def _call(call: CalledFunction) -> str:
    content = f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}'
    return f"{CALL_BEGIN}\n{content}\n{CALL_END}"
