"""`openai` for Python and /v1/chat/completions, with the demo model's true answers."""

import asyncio
import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from tests.sdk.media import SHAPES, TRIANGLE, image, text, user, video

MODEL = "internvl-demo"
DESCRIBE = text("Describe the image.")


def test_a_picture(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=[user(image(), DESCRIBE)])
    (choice,) = answer.choices
    assert choice.message.content == SHAPES and choice.finish_reason == "stop"
    usage = answer.usage
    assert usage is not None and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert answer.model == MODEL and answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-") and answer._request_id


def test_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[user(image(), DESCRIBE)],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == SHAPES
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == "stop" and set(reasons[:-1]) == {None}
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


async def test_many_at_once(many: openai.AsyncOpenAI) -> None:
    async def ask(name: str) -> str | None:
        messages = [user(image(name), DESCRIBE)]
        answer = await many.chat.completions.create(model=MODEL, messages=messages)
        return answer.choices[0].message.content

    answers = await asyncio.gather(*(ask(n) for n in ["shapes.png", "triangle.png"] * 8))
    assert answers == [SHAPES, TRIANGLE] * 8


async def test_a_stream_that_is_left(many: openai.AsyncOpenAI) -> None:
    stream = await many.chat.completions.create(
        model=MODEL,
        messages=[user("Count to 20.")],
        stream=True,
        extra_body={"ignore_eos": True, "max_tokens": 1500},
    )
    async with stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    answer = await many.chat.completions.create(model=MODEL, messages=[user("Count to 5.")])
    assert answer.choices[0].message.content == "1, 2, 3, 4, 5."


def test_a_video(client: openai.OpenAI) -> None:
    messages = [user(video(num_frames=5), text("What happens in the video?"))]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    assert "green circle moves to the right" in (answer.choices[0].message.content or "")
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.model_dump()["video_frames"] == 5


def test_several_answers_with_their_probabilities(client: openai.OpenAI) -> None:
    def ask() -> Any:
        return client.chat.completions.create(
            model=MODEL,
            messages=[user(image(), DESCRIBE)],
            n=3,
            seed=7,
            temperature=1.5,
            logprobs=True,
            top_logprobs=2,
        )

    answer = ask()
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        tokens = choice.logprobs.content
        words = b"".join(bytes(token.bytes) for token in tokens)
        assert words.decode().startswith(choice.message.content)
        assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    again = [choice.message.content for choice in ask().choices]
    assert again == [choice.message.content for choice in answer.choices]


class Seen(BaseModel):
    """What an image shows."""

    shape: Literal["circle", "square", "triangle"]
    colour: Literal["red", "green", "blue"]
    sides: int = Field(ge=0, le=9)


def test_parse(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=[user(image("triangle.png"), DESCRIBE)],
        response_format=Seen,
    )
    assert isinstance(answer.choices[0].message.parsed, Seen)


def test_the_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=[user(image(), DESCRIBE)], response_format=Seen, max_tokens=60
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert isinstance(final.choices[0].message.parsed, Seen)


class Sides(BaseModel):
    """How many sides a shape has."""

    shape: Literal["a circle", "a square", "a triangle"]


TOOLS = [openai.pydantic_function_tool(Sides)]


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "Sides"}}]
)
def test_tools_with_their_results(client: openai.OpenAI, choice: Any) -> None:
    messages: list[Any] = [user(image("triangle.png"), text("What shape is it?"))]
    asked = client.chat.completions.parse(
        model=MODEL, messages=messages, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False
    )
    (call,) = asked.choices[0].message.tool_calls or []
    assert asked.choices[0].finish_reason in ("tool_calls", "stop")
    assert isinstance(call.function.parsed_arguments, Sides)
    messages += [
        {
            "role": "assistant",
            "tool_calls": [call.model_dump(exclude={"function": {"parsed_arguments"}})],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "3"},
    ]
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, tools=TOOLS, max_tokens=40
    )
    assert answer.choices[0].message.content


def test_arguments_arrive_in_pieces(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[user(image("triangle.png"), text("What shape is it?"))],
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        stream=True,
    )
    calls = [
        c for chunk in stream if chunk.choices for c in chunk.choices[0].delta.tool_calls or []
    ]
    assert calls[0].id and calls[0].function is not None and calls[0].function.name == "Sides"
    pieces = [call.function.arguments or "" for call in calls if call.function is not None]
    assert Sides.model_validate(json.loads("".join(pieces)))


def test_none_means_no_call(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[user(image(), DESCRIBE)], tools=TOOLS, tool_choice="none"
    )
    assert answer.choices[0].message.tool_calls is None
