"""`openai` for Python and /v1/responses."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.sdk.media import SHAPES, TRIANGLE, data_url

MODEL = "internvl-demo"
ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def asked(*names: str, words: str = "Describe the image.") -> Any:
    parts: list[Any] = [{"type": "input_image", "image_url": data_url(name)} for name in names]
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": words}]}]


def test_a_picture(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input=asked("shapes.png"))
    assert answer.output_text == SHAPES and answer.status == "completed"
    assert answer.usage is not None and answer.usage.output_tokens > 5


def test_a_video(client: openai.OpenAI) -> None:
    content: list[Any] = [
        {"type": "input_video", "video_url": data_url("moving.mp4", "video/mp4")},
        {"type": "input_text", "text": "What happens in the video?"},
    ]
    question: Any = [{"role": "user", "content": content}]
    answer = client.responses.create(model=MODEL, input=question)
    assert "green circle moves to the right" in answer.output_text


def test_events_come_in_their_order(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model=MODEL, input=asked("shapes.png"), stream=True))
    kinds = [event.type for event in events]
    assert list(dict.fromkeys(kinds)) == ORDER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(said) == SHAPES


def test_the_stream_helper(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input=asked("triangle.png")) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert final.output_text == TRIANGLE and "response.output_text.delta" in kinds


class Seen(BaseModel):
    """What an image shows."""

    shape: Literal["circle", "square", "triangle"]
    colour: Literal["red", "green", "blue"]


def test_parse(client: openai.OpenAI) -> None:
    answer = client.responses.parse(model=MODEL, input=asked("triangle.png"), text_format=Seen)
    assert isinstance(answer.output_parsed, Seen)


def test_an_answer_is_gone_on_from_and_forgotten(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODEL, input=asked("shapes.png"))
    second = client.responses.create(
        model=MODEL, input="What is on the left?", previous_response_id=first.id
    )
    assert "red circle" in second.output_text
    assert client.responses.retrieve(first.id).output_text == SHAPES
    (item,) = client.responses.input_items.list(first.id).data
    assert item.type == "message" and item.content[0].type == "input_image"
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_function_and_its_result(client: openai.OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "name": "sides",
        "description": "How many sides a shape has.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"shape": {"enum": ["a circle", "a square", "a triangle"]}},
            "required": ["shape"],
            "additionalProperties": False,
        },
    }
    question = asked("triangle.png", words="What shape is it?")
    answer = client.responses.create(
        model=MODEL, input=question, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "sides" and json.loads(call.arguments)["shape"].startswith("a ")
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "3"}]
    after = client.responses.create(
        model=MODEL,
        input=result,
        previous_response_id=answer.id,
        tools=[tool],
        tool_choice="none",
        max_output_tokens=40,
    )
    assert after.output_text
