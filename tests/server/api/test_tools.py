"""Tools over HTTP: what is demanded is called, and what is refused is named."""

import json
from typing import Any, Literal

import openai
import pydantic
import pytest

from server.engine.types import TextDelta
from tests.fakes import FakeEngine, make_app, run_server
from tests.server.api.client import HELLO, error_of, events, post

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Paris", "Köln"]},
                "days": {"$ref": "#/$defs/few"},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
            "$defs": {"few": {"type": "integer", "minimum": 1, "maximum": 3}},
        },
    },
}
TIME = {"type": "function", "function": {"name": "time"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ASK: dict[str, Any] = {**HELLO, "tools": [WEATHER, TIME], "max_tokens": 300, "temperature": 1.0}


def check_arguments(call: dict[str, Any]) -> None:
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "get_weather":
        assert set(arguments) == {"city", "days"}
        assert arguments["city"] in ("Paris", "Köln") and arguments["days"] in (1, 2, 3)
    else:
        assert call["function"]["name"] == "time" and isinstance(arguments, dict)


@pytest.mark.parametrize("seed", range(4))
def test_a_named_tool_is_called_once(worker_url: str, seed: int) -> None:
    choice = post(worker_url, {**ASK, "tool_choice": NAMED, "seed": seed}).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function" and call["id"].startswith("call_")
    assert call["function"]["name"] == "get_weather"
    check_arguments(call)


@pytest.mark.parametrize("seed", range(4))
def test_a_function_takes_the_arguments_that_it_names(worker_url: str, seed: int) -> None:
    """As most libraries write them: without a word on others."""
    properties = {"city": {"enum": ["Paris", "Köln"]}}
    parameters = {"type": "object", "properties": properties}
    tool = {"type": "function", "function": {"name": "where", "parameters": parameters}}
    body = {**ASK, "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    choice = post(worker_url, {**body, "seed": seed}).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]).keys() <= {"city"}


@pytest.mark.parametrize("seed", range(4))
def test_some_tool_is_called_when_required(worker_url: str, seed: int) -> None:
    body = {**ASK, "tools": [WEATHER], "tool_choice": "required", "seed": seed, "max_tokens": 400}
    choice = post(worker_url, body).json()["choices"][0]
    calls = choice["message"]["tool_calls"]
    if choice["finish_reason"] == "length":  # the last may be cut off
        calls = calls[:-1]
    assert choice["message"]["content"] is None
    for call in calls:
        check_arguments(call)


def test_streamed_calls_add_up(worker_url: str) -> None:
    body = {**ASK, "tool_choice": NAMED, "seed": 1}
    whole = post(worker_url, body).json()["choices"][0]["message"]["tool_calls"][0]["function"]
    chunks = events(post(worker_url, {**body, "stream": True}))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    pieces = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert pieces[0]["function"] == {"name": "get_weather", "arguments": ""} and pieces[0]["id"]
    assert all(set(piece) == {"index", "function"} for piece in pieces[1:])
    arguments = "".join(piece["function"]["arguments"] for piece in pieces)
    assert arguments == whole["arguments"] and len(pieces) > 1
    assert not any(delta.get("content") for delta in deltas)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_strict_tools_bind_free_answers_too(worker_url: str) -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    for seed in range(4):
        body = {**ASK, "tools": [strict], "seed": seed, "max_tokens": 40}
        assert post(worker_url, body).status_code == 200


class Forecast(pydantic.BaseModel):
    """Weather to come."""

    city: Literal["Paris", "Köln"]
    is_hourly: bool


def test_openai_helpers_parse_the_arguments(worker_url: str) -> None:
    with openai.OpenAI(base_url=f"{worker_url}/v1", api_key="none") as client:
        answer = client.chat.completions.parse(
            model="tiny",
            messages=[{"role": "user", "content": "Hi"}],
            tools=[openai.pydantic_function_tool(Forecast)],
            tool_choice={"type": "function", "function": {"name": "Forecast"}},
            max_tokens=300,
        )
    assert answer.choices[0].message.tool_calls is not None
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Forecast)


async def call_twice(_: Any) -> Any:
    text = (
        'Let me see.\n<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>\n<tool_call>\n'
        '{"arguments": {"a": "}"}, "name": "other"}\n</tool_call>'
    )
    for char in text:
        yield TextDelta(char, 1)
    yield TextDelta("", 1, "stop")


def test_free_calls_are_found_in_the_text(tiny_checkpoint: Any) -> None:
    engine = FakeEngine(call_twice)
    with run_server(make_app(tiny_checkpoint, engine)) as url:
        message = post(url, ASK).json()["choices"][0]["message"]
        functions = [call["function"] for call in message["tool_calls"]]
        assert message["content"] == "Let me see."
        assert functions == [
            {"name": "time", "arguments": "{}"},
            {"name": "other", "arguments": '{"a": "}"}'},
        ]
        chunks = events(post(url, {**ASK, "stream": True}))
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Let me see."
        indices = [c["index"] for d in deltas for c in d.get("tool_calls", ()) if "id" in c]
        assert indices == [0, 1]
        without = post(url, {**ASK, "tool_choice": "none"}).json()["choices"][0]
        assert "<tool_call>" in without["message"]["content"]
        assert len(engine.requests[-1].prompt.token_ids) < len(engine.requests[0].prompt.token_ids)


def history(**call: Any) -> dict[str, Any]:
    function = {"name": "time", "arguments": "{}", **call}
    turn = {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    result = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
    return {"messages": [*HELLO["messages"], turn, result]}


def test_results_of_calls_are_taken(url: str) -> None:
    assert post(url, {**ASK, **history()}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"tools": [TIME, TIME]}, "invalid_value", "tools"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
        ({"tools": [{"type": "web"}]}, "invalid_value", "tools[0].type"),
        ({"tools": [], "tool_choice": "required"}, "invalid_parameter_combination", "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "invalid_value",
         "tool_choice.function.name"),
        ({"tool_choice": "maybe"}, "invalid_value", "tool_choice"),
        ({"tool_choice": "required", "response_format": {"type": "json_object"}},
         "invalid_parameter_combination", "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "invalid_value",
         "tools[0].function.name"),
        ({"tools": [{"type": "function",
                     "function": {"name": "a", "parameters": {"type": "object", "properties": {
                         "x": {"type": 5}}}}}]}, "invalid_value", "tools[0].function.parameters"),
        (history(arguments="{"), "invalid_value", "messages[1].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "time", "arguments": "{}"}}]}]},
         "invalid_value", "messages[0].tool_calls"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named(
    url: str, fields: dict[str, Any], code: str, param: str
) -> None:
    response = post(url, {**ASK, **fields})
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param), response.text
