"""LangChain's ChatOpenAI: a picture, a stream, a tool call, an object."""

from typing import Literal

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from tests.sdk.media import SHAPES, TRIANGLE, image, text

DESCRIBE = text("Describe the image.")


@pytest.fixture
def model(demo_server: str) -> ChatOpenAI:
    return ChatOpenAI(
        model="internvl-demo", base_url=demo_server, api_key=SecretStr("none"), max_retries=0
    )


def asked(name: str = "shapes.png") -> HumanMessage:
    return HumanMessage(content=[image(name), DESCRIBE])


def test_a_picture(model: ChatOpenAI) -> None:
    answer = model.invoke([asked()])
    assert answer.content == SHAPES
    assert answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] > 5


def test_a_stream(model: ChatOpenAI) -> None:
    pieces = [str(chunk.content) for chunk in model.stream([asked()])]
    assert "".join(pieces) == SHAPES


def test_many_at_once(model: ChatOpenAI) -> None:
    answers = model.batch([[asked(name)] for name in ("shapes.png", "triangle.png") * 4])
    assert [answer.content for answer in answers] == [SHAPES, TRIANGLE] * 4


class Sides(BaseModel):
    """How many sides a shape has."""

    shape: Literal["circle", "square", "triangle"]


def test_a_tool(model: ChatOpenAI) -> None:
    bound = model.bind_tools([Sides], tool_choice="Sides")
    (call,) = bound.invoke([asked("triangle.png")]).tool_calls  # type: ignore[attr-defined]
    assert call["name"] == "Sides" and Sides.model_validate(call["args"])


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_object(model: ChatOpenAI, method: Literal["json_schema", "function_calling"]) -> None:
    answer = model.with_structured_output(Sides, method=method).invoke([asked("triangle.png")])
    assert isinstance(answer, Sides)
