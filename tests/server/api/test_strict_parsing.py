"""Whatever JSON comes in whichever place: it is understood, or refused as the client's mistake."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.api.messages.translate import parse_messages_prompt, parse_messages_request
from server.api.responses.translate import parse_responses_request
from server.errors import InvalidRequestError

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
RESPONSES: dict[str, Any] = {
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "http://h/", "detail": "low"},
                {"type": "input_video", "video_url": "http://h/", "fps": 1.0, "start": 0.0},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ],
    "instructions": "x",
    "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"},
    "metadata": {"a": "b"},
}
URL = {"type": "url", "url": "http://h/"}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
MESSAGES: dict[str, Any] = {
    "max_tokens": 5,
    "system": [{"type": "text", "text": "x"}],
    "messages": [
        {
            "role": "user",
            "content": [{"type": "image", "source": URL}, {"type": "video", "source": URL}],
        },
        {
            "role": "assistant",
            "content": [USE],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "1"}],
                    "is_error": True,
                }
            ],
        },
    ],
    "tools": [{"name": "f", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "f"},
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    "stop_sequences": ["x"],
}
PARSERS: list[tuple[Callable[[bytes], Any], dict[str, Any]]] = [
    (parse_responses_request, RESPONSES),
    (parse_messages_request, MESSAGES),
]
WORDS = sorted({word for body in (RESPONSES, MESSAGES) for word in json.dumps(body).split('"')})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*WORDS, "#text", "a.b[0]"]), inner, max_size=4)
    ),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@pytest.mark.parametrize(("parse", "body"), PARSERS, ids=["responses", "messages"])
def test_the_whole_body_is_understood(parse: Any, body: dict[str, Any]) -> None:
    assert parse(json.dumps(body).encode()).translated.request.messages


def test_a_prompt_alone_needs_no_max_tokens() -> None:
    body = {n: v for n, v in MESSAGES.items() if n not in ("max_tokens", "stop_sequences")}
    assert parse_messages_prompt(json.dumps(body).encode()).wire.tools


@pytest.mark.parametrize(("parse", "body"), PARSERS, ids=["responses", "messages"])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_anything_anywhere_is_understood_or_refused(
    data: st.DataObject, parse: Any, body: dict[str, Any]
) -> None:
    body = deepcopy(body)
    container, key = data.draw(st.sampled_from(list(places(body))), label="place")
    container[key] = data.draw(JSON, label="value")
    if data.draw(st.booleans()) and isinstance(container, dict):
        container[data.draw(st.sampled_from(WORDS))] = data.draw(JSON)
    try:
        asked = parse(json.dumps(body).encode())
    except InvalidRequestError as error:
        assert error.message and "#" not in (error.param or "").replace("#text", "")
    else:
        assert asked.translated.request.messages
