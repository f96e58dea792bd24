"""`anthropic` for Python and /v1/messages."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.sdk.media import SHAPES, data_url

MODEL = "internvl-demo"


@pytest.fixture
def client(demo_server: str) -> Iterator[anthropic.Anthropic]:
    base_url = demo_server.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


def asked(words: str = "Describe the image.", name: str = "shapes.png") -> Any:
    data = data_url(name).partition(",")[2]
    source = {"type": "base64", "media_type": "image/png", "data": data}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": words}]
    return [{"role": "user", "content": parts}]


def test_a_picture_and_a_second_turn(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model=MODEL, max_tokens=60, messages=asked())
    (block,) = answer.content
    assert block.type == "text" and block.text == SHAPES and answer.stop_reason == "end_turn"
    turns = [*asked(), {"role": "assistant", "content": SHAPES}]
    turns += [{"role": "user", "content": "What is on the left?"}]
    second = client.messages.create(model=MODEL, max_tokens=60, messages=turns)
    assert second.content[0].type == "text" and "red circle" in second.content[0].text


def test_a_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model=MODEL, max_tokens=60, messages=asked()) as stream:
        said = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(said) == SHAPES
    assert final.usage.output_tokens > 5 and final.stop_reason == "end_turn"


def test_tokens_are_counted_as_they_are_used(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=asked())
    answer = client.messages.create(model=MODEL, max_tokens=5, messages=asked())
    cached = answer.usage.cache_read_input_tokens or 0
    assert counted.input_tokens == answer.usage.input_tokens + cached > 50


def test_a_tool(client: anthropic.Anthropic) -> None:
    tool: Any = {
        "name": "sides",
        "description": "How many sides a shape has.",
        "input_schema": {
            "type": "object",
            "properties": {"shape": {"enum": ["circle", "square", "triangle"]}},
            "required": ["shape"],
            "additionalProperties": False,
        },
    }
    answer = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=asked("What shape is it?", "triangle.png"),
        tools=[tool],
        tool_choice={"type": "tool", "name": "sides"},
    )
    (block,) = answer.content
    assert block.type == "tool_use" and answer.stop_reason == "tool_use"
    assert isinstance(block.input, dict)
    assert block.input["shape"] in ("circle", "square", "triangle")


def test_errors_have_anthropics_shape(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=MODEL, max_tokens=0, messages=asked())
    assert isinstance(caught.value.body, dict) and caught.value.body["type"] == "error"
