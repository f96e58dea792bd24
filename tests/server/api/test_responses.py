"""POST /v1/responses over a real socket: shapes, events in order, and what goes on from where."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest

from server.engine.types import GenerationRequest, TextDelta
from tests.fakes import (
    FakeEngine,
    FakeMedia,
    break_down,
    make_app,
    run_server,
    say_nothing_for_ever,
)
from tests.server.api.client import error_of

PICTURE = "data:image/png;base64,AAAA"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def ask(url: str, body: Any, **options: Any) -> httpx.Response:
    if isinstance(body, dict) and "input" not in body:
        body = {"input": "Hi", **body}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    return httpx.post(f"{url}/v1/responses", content=content, headers=headers, **options)


def stream(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events; each is named as its data says, and they are numbered."""
    response = ask(url, {**body, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    blocks = response.text.removesuffix("\n\n").split("\n\n")
    told = []
    for number, block in enumerate(blocks):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}" and event["sequence_number"] == number
        told.append(event)
    return told


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": list(parts)}]}


def prompt_of(engine: FakeEngine) -> list[int]:
    return engine.requests[-1].prompt.token_ids


# ------------------------------------------------------------------ answers


def test_json_answer(url: str) -> None:
    body = ask(url, {"model": "tiny", "metadata": {"a": "b"}, "temperature": 0.5}).json()
    assert body["object"] == "response" and body["status"] == "completed"
    assert body["id"].startswith("resp_") and body["model"] == "tiny"
    (item,) = body["output"]
    part = {"type": "output_text", "text": "Hello 👋", "annotations": [], "logprobs": []}
    assert item.pop("id").startswith("msg_")
    assert item == {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    usage = body["usage"]
    assert usage["output_tokens"] == 4 and usage["input_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + 4
    assert usage["input_tokens_details"]["cached_tokens"] == 0
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}
    assert (body["metadata"], body["temperature"], body["store"]) == ({"a": "b"}, 0.5, True)
    assert body["error"] is None and body["incomplete_details"] is None
    assert body["text"]["format"] == {"type": "text"} and body["tool_choice"] == "auto"


def test_events_come_in_openais_order(url: str) -> None:
    told = stream(url, {})
    kinds = [event["type"].removeprefix("response.") for event in told]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert told[0]["response"]["status"] == told[1]["response"]["status"] == "in_progress"
    assert told[0]["response"]["output"] == [] and told[0]["response"]["usage"] is None
    assert told[2]["item"]["status"] == "in_progress" and told[2]["item"]["content"] == []
    deltas = [event["delta"] for event in told if event["type"].endswith("text.delta")]
    assert "".join(deltas) == told[6]["text"] == told[7]["part"]["text"] == "Hello 👋"
    assert {event["item_id"] for event in told[3:8]} == {told[2]["item"]["id"]}
    assert told[8]["item"] == told[9]["response"]["output"][0]
    assert told[9]["response"]["usage"]["output_tokens"] == 4
    assert len({event["response"]["id"] for event in told if "response" in event}) == 1


async def cut_off(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    yield TextDelta("so", 1)
    yield TextDelta(" far", 1, "length")


async def say_no_word(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    yield TextDelta("", 1, "stop")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_answer_that_is_cut_off_is_incomplete(tiny_checkpoint: Path, is_streamed: bool) -> None:
    engine = FakeEngine(cut_off)
    with run_server(make_app(tiny_checkpoint, engine)) as url:
        if is_streamed:
            last = stream(url, {"max_output_tokens": 2})[-1]
            assert last["type"] == "response.incomplete"
            body = last["response"]
        else:
            body = ask(url, {"max_output_tokens": 2}).json()
    assert engine.requests[-1].sampling.max_tokens == 2
    assert body["status"] == body["output"][0]["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][0]["content"][0]["text"] == "so far"
    assert body["completed_at"] is None


def test_no_word_is_an_empty_message(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(say_no_word))) as url:
        (item,) = ask(url, {}).json()["output"]
        assert item["content"][0]["text"] == "" and item["status"] == "completed"
        assert stream(url, {})[-2]["item"]["content"] == item["content"]


def test_an_engine_failure_is_a_500_or_the_last_event(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(break_down))) as url:
        response = ask(url, {})
        assert response.status_code == 500 and error_of(response)["code"] == "engine_error"
        told = stream(url, {})
        assert told[-1]["type"] == "response.failed"
        failed = told[-1]["response"]
        assert failed["status"] == "failed" and failed["error"]["code"] == "server_error"
        assert "engine stopped" in failed["error"]["message"]
        assert failed["output"][0]["status"] == "incomplete"
        assert httpx.get(f"{url}/v1/responses/{failed['id']}").status_code == 404


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_client_that_leaves_aborts_and_nothing_is_stored(
    tiny_checkpoint: Path, is_streamed: bool
) -> None:
    engine = FakeEngine(say_nothing_for_ever)
    app = make_app(tiny_checkpoint, engine, max_num_seqs=1, max_waiting_requests=0)
    with run_server(app) as url:
        for count in (1, 2):
            engine.something_aborted.clear()
            with pytest.raises(httpx.ReadTimeout):
                ask(url, {"stream": is_streamed}, timeout=0.5)
            assert engine.something_aborted.wait(5) and len(engine.aborted) == count
        response = httpx.get(f"{url}/v1/responses/resp_{engine.requests[-1].request_id}")
    assert response.status_code == 404


# ------------------------------------------------------------------ input


def test_a_string_is_one_message_of_the_user(url: str, engine: FakeEngine) -> None:
    ask(url, {"input": "What?"})
    asked = prompt_of(engine)
    part = {"type": "input_text", "text": "What?"}
    items: list[Any] = [
        [{"role": "user", "content": "What?"}],
        [{"role": "user", "type": "message", "content": [part], "id": "msg_1"}],
    ]
    for each in items:
        assert ask(url, {"input": each}).status_code == 200
        assert prompt_of(engine) == asked


def test_turns_and_instructions_are_chats(url: str, engine: FakeEngine) -> None:
    said = {"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": []}
    items = [
        {"role": "user", "content": "A?"},
        {
            "type": "message",
            "id": "m",
            "status": "completed",
            "role": "assistant",
            "content": [said],
        },
        {"role": "user", "content": "B?"},
    ]
    assert ask(url, {"instructions": "Be short.", "input": items}).status_code == 200
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "B?"},
    ]
    assert_same_prompt(url, engine, {"messages": messages})


def assert_same_prompt(url: str, engine: FakeEngine, chat: dict[str, Any]) -> None:
    """As the last one."""
    asked = prompt_of(engine)
    response = httpx.post(f"{url}/v1/chat/completions", json=chat)
    assert response.status_code == 200, response.text
    assert prompt_of(engine) == asked


def test_media_reach_the_loader_with_their_bounds(url: str, media: FakeMedia) -> None:
    media.requests.clear()
    response = ask(
        url,
        user(
            {"type": "input_image", "image_url": "http://h/1", "detail": "low"},
            {"type": "input_text", "text": "and"},
            {"type": "input_video", "video_url": "http://h/2", "num_frames": 3, "start": 1.0},
            {"type": "input_image", "image_url": "http://h/3", "max_dynamic_patch": 2},
            {"type": "input_video", "video_url": "http://h/4", "fps": 2.0, "end": 4.0},
        ),
    )
    assert response.status_code == 200, response.text
    seen = [
        (r.kind, r.url[-1], r.max_tiles, r.num_frames, r.fps, r.start_s, r.end_s)
        for r in media.requests
    ]
    assert seen == [
        ("image", "1", 1, None, None, None, None),
        ("video", "2", None, 3, None, 1.0, None),
        ("image", "3", 2, None, None, None, None),
        ("video", "4", None, None, 2.0, None, 4.0),
    ]
    details = response.json()["usage"]["input_tokens_details"]
    assert details["image_tiles"] == 2 and details["video_frames"] == 5


def test_sampling_fields_reach_the_engine(url: str, engine: FakeEngine) -> None:
    fields = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 3, "max_output_tokens": 7}
    assert ask(url, {**fields, "cache_salt": "s", "priority": 2}).status_code == 200
    request = engine.requests[-1]
    got = {name: getattr(request.sampling, name, None) for name in fields}
    assert got | {"max_output_tokens": request.sampling.max_tokens} == fields
    assert (request.cache_salt, request.priority) == ("s", 2)


def test_a_schema_becomes_a_grammar(url: str, engine: FakeEngine) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for wish in (
        {"type": "json_object"},
        {"type": "json_schema", "name": "it", "schema": schema, "strict": True},
    ):
        body = ask(url, {"text": {"format": wish}}).json()
        assert engine.requests[-1].grammar and body["text"]["format"] == wish
    assert ask(url, {"text": {"format": {"type": "text"}}}).status_code == 200
    assert engine.requests[-1].grammar == ""


def test_what_asks_for_nothing_is_fine(url: str) -> None:
    idle = {
        "background": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "none"},
        "truncation": "disabled",
        "service_tier": "auto",
        "conversation": None,
        "stream_options": {"include_obfuscation": False},
        "top_logprobs": 0,
        "user": "me",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "tools": [],
        "tool_choice": "auto",
    }
    assert ask(url, idle).status_code == 200


# ------------------------------------------------------------------ refusals

IMAGE = {"type": "input_image", "image_url": "http://h/"}
FIRST = "input[0].content[0]"
TYPE, VALUE = "invalid_type", "invalid_value"
MISSING, UNSUPPORTED = "missing_required_parameter", "unsupported_parameter"
REFUSED: list[tuple[Any, str, str | None]] = [
    (b"{", "invalid_json", None),
    (b"{}", MISSING, "input"),
    ({"input": None}, TYPE, "input"),
    ({"input": 5}, TYPE, "input"),
    ({"input": []}, VALUE, "input"),
    ({"input": ["x"]}, MISSING, "input[0].type"),
    ({"input": [{"type": "reasoning", "summary": []}]}, VALUE, "input[0].type"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, VALUE, "input[0].type"),
    ({"input": [{"role": "user"}]}, MISSING, "input[0].content"),
    ({"input": [{"role": "tool", "content": "x"}]}, VALUE, "input[0].role"),
    ({"input": [{"role": "user", "content": "x", "name": "y"}]}, UNSUPPORTED, "input[0].name"),
    (user(), VALUE, "input[0].content"),
    (user({"type": "input_text"}), MISSING, f"{FIRST}.text"),
    (user({"type": "input_text", "text": 5}), TYPE, f"{FIRST}.text"),
    (user({"type": "text", "text": "x"}), VALUE, f"{FIRST}.type"),
    (user({"type": "input_file", "file_id": "x"}), VALUE, f"{FIRST}.type"),
    (user({"type": "output_text", "text": "x"}), VALUE, FIRST),
    (user({**IMAGE, "file_id": "x"}), UNSUPPORTED, f"{FIRST}.file_id"),
    (user({**IMAGE, "detail": "ultra"}), VALUE, f"{FIRST}.detail"),
    (user({"type": "input_image", "image_url": {"url": "x"}}), TYPE, f"{FIRST}.image_url"),
    (user({**IMAGE, "max_dynamic_patch": 64}), VALUE, f"{FIRST}.max_dynamic_patch"),
    (
        user({"type": "input_video", "video_url": "http://h/", "fps": 1, "num_frames": 2}),
        "invalid_parameter_combination",
        f"{FIRST}.fps",
    ),
    (
        user({"type": "input_video", "video_url": "http://h/", "start": 2, "end": 2}),
        VALUE,
        f"{FIRST}.end",
    ),
    (
        user({"type": "input_text", "text": "x"}, {**IMAGE, "image_url": "http://bad/"}),
        "media_decode_failed",
        "input[0].content[1].image_url",
    ),
    (user(*[IMAGE] * 17), "media_too_many", "input"),
    ({"input": [{"role": "system", "content": [IMAGE]}]}, VALUE, FIRST),
    ({"input": "a " * 5000}, "context_length_exceeded", "input"),
    ({"instructions": 5}, TYPE, "instructions"),
    ({"model": "nope"}, "model_not_found", "model"),
    ({"max_output_tokens": 0}, VALUE, "max_output_tokens"),
    ({"max_tokens": 5}, UNSUPPORTED, "max_tokens"),
    ({"messages": []}, UNSUPPORTED, "messages"),
    ({"x" * 5000: 1}, UNSUPPORTED, "x" * 64),
    ({"n": 2}, UNSUPPORTED, "n"),
    ({"temperature": 3}, VALUE, "temperature"),
    ({"stream": "yes"}, TYPE, "stream"),
    ({"metadata": {"a": 1}}, TYPE, "metadata"),
    ({"metadata": {str(i): "x" for i in range(17)}}, VALUE, "metadata"),
    ({"truncation": "auto"}, VALUE, "truncation"),
    ({"service_tier": "flex"}, VALUE, "service_tier"),
    ({"background": True}, UNSUPPORTED, "background"),
    ({"conversation": "conv_1"}, UNSUPPORTED, "conversation"),
    ({"include": ["message.output_text.logprobs"]}, UNSUPPORTED, "include"),
    ({"reasoning": {"effort": "high"}}, UNSUPPORTED, "reasoning"),
    ({"prompt": {"id": "p"}}, UNSUPPORTED, "prompt"),
    ({"top_logprobs": 2}, UNSUPPORTED, "top_logprobs"),
    ({"text": {"format": {"type": "xml"}}}, VALUE, "text.format.type"),
    ({"text": {"format": {"type": "json_schema"}}}, MISSING, "text.format.name"),
    (
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": 5}}}},
        VALUE,
        "text.format.schema",
    ),
    ({"text": {"verbosity": "low"}}, VALUE, "text.verbosity"),
    ({"tools": [{"type": "web_search"}]}, VALUE, "tools[0].type"),
    ({"tools": [{"type": "function", "name": "a b"}]}, VALUE, "tools[0].name"),
    ({"tools": [WEATHER, WEATHER]}, VALUE, "tools"),
    (
        {"tools": [{**WEATHER, "parameters": {"type": 5}, "strict": True}]},
        VALUE,
        "tools[0].parameters",
    ),
    ({"tool_choice": "required"}, "invalid_parameter_combination", "tool_choice"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}},
        VALUE,
        "tool_choice.name",
    ),
    ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, VALUE, "tool_choice"),
    ({"previous_response_id": "resp_0"}, "previous_response_not_found", "previous_response_id"),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "1"}]},
        VALUE,
        "input[0].call_id",
    ),
    (
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]},
        VALUE,
        "input[0].arguments",
    ),
    (
        {
            "input": [
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": [IMAGE]},
            ]
        },
        VALUE,
        "input[1].output[0]",
    ),
]


@pytest.mark.parametrize(("body", "code", "param"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_is_named_in_the_clients_words(
    url: str, body: Any, code: str, param: str | None
) -> None:
    response = ask(url, body)
    assert response.status_code == (404 if code == "model_not_found" else 400), response.text
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param), response.text
    assert "messages[" not in response.text and len(response.text) < 1500


# ------------------------------------------------------------------ what was answered before


def test_an_answer_is_gone_on_from(url: str, engine: FakeEngine) -> None:
    first = ask(url, {"input": "A?", "instructions": "Be short."}).json()
    second = ask(url, {"input": "B?", "previous_response_id": first["id"]}).json()
    assert second["previous_response_id"] == first["id"]
    messages = [
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "Hello 👋"},
        {"role": "user", "content": "B?"},
    ]
    assert_same_prompt(url, engine, {"messages": messages})
    ask(url, {"input": "C?", "previous_response_id": second["id"], "instructions": "Be long."})
    more = [{"role": "assistant", "content": "Hello 👋"}, {"role": "user", "content": "C?"}]
    system = {"role": "system", "content": "Be long."}
    assert_same_prompt(url, engine, {"messages": [system, *messages, *more]})


def test_pictures_of_earlier_turns_are_named_by_their_response(
    url: str, media: FakeMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(url, user({"type": "input_image", "image_url": "http://h/fine"})).json()
    media.requests.clear()
    body = {**user({**IMAGE, "image_url": "http://bad/"}), "previous_response_id": first["id"]}
    assert error_of(ask(url, body))["param"] == "input[0].content[0].image_url"
    assert [request.url for request in media.requests] == ["http://h/fine", "http://bad/"]
    body["input"] = "x"
    assert ask(url, body).status_code == 200
    long = {"input": "a " * 5000, "previous_response_id": first["id"]}
    assert error_of(ask(url, long))["param"] == "input"


def test_streamed_answers_are_stored_too(url: str) -> None:
    last = stream(url, {"input": "A?"})[-1]["response"]
    assert httpx.get(f"{url}/v1/responses/{last['id']}").json() == last


def test_a_stored_answer_is_read_listed_and_deleted(url: str) -> None:
    parts = [{"type": "input_text", "text": "A?"}, IMAGE]
    body = ask(url, {"input": [{"role": "user", "content": parts}, *turns(3)]}).json()
    path = f"{url}/v1/responses/{body['id']}"
    assert httpx.get(path).json() == body
    newest = httpx.get(f"{path}/input_items?limit=2").json()
    assert [item["content"][0]["text"] for item in newest["data"]] == ["t2", "t1"]
    assert newest["object"] == "list" and newest["has_more"]
    assert newest["last_id"] == newest["data"][-1]["id"]
    rest = httpx.get(f"{path}/input_items?after={newest['last_id']}").json()
    assert not rest["has_more"] and rest["data"][-1]["content"] == parts
    oldest = httpx.get(f"{path}/input_items?order=asc&limit=1").json()["data"]
    assert oldest[0]["content"] == parts and oldest[0]["role"] == "user"
    assert httpx.delete(path).json() == {"id": body["id"], "object": "response", "deleted": True}
    for gone in (httpx.get(path), httpx.get(f"{path}/input_items"), httpx.delete(path)):
        assert gone.status_code == 404 and error_of(gone)["code"] == "response_not_found"


def turns(count: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"t{index}"} for index in range(count)]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?stream=true", "stream"),
        ("?starting_after=1", "starting_after"),
        ("/input_items?limit=0", "limit"),
        ("/input_items?limit=101", "limit"),
        ("/input_items?limit=x", "limit"),
        ("/input_items?order=up", "order"),
        ("/input_items?after=msg_0", "after"),
        ("/input_items?include=x", "include"),
    ],
)
def test_bad_queries_are_named(url: str, query: str, param: str) -> None:
    body = ask(url, {}).json()
    response = httpx.get(f"{url}/v1/responses/{body['id']}{query}")
    assert response.status_code == 400 and error_of(response)["param"] == param


def test_store_false_keeps_nothing(url: str) -> None:
    body = ask(url, {"store": False}).json()
    assert body["store"] is False
    assert httpx.get(f"{url}/v1/responses/{body['id']}").status_code == 404


def test_a_store_of_no_bytes_is_no_store(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, response_store_bytes=0)) as url:
        body = ask(url, {}).json()
        assert body["store"] is False
        assert httpx.get(f"{url}/v1/responses/{body['id']}").status_code == 404
        assert error_of(ask(url, {"store": True}))["param"] == "store"


def test_what_cannot_be_stored_is_refused_before_it_is_answered(tiny_checkpoint: Path) -> None:
    engine = FakeEngine()
    with run_server(make_app(tiny_checkpoint, engine, response_store_bytes=2 << 20)) as url:
        big = {**IMAGE, "image_url": "data:image/png;base64," + "A" * (1 << 20)}
        assert error_of(ask(url, user(big)))["param"] == "store"
        assert not engine.requests
        assert ask(url, {**user(big), "store": False}).status_code == 200


# ------------------------------------------------------------------ tools

CALLS = (
    'Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rom"}}\n</tool_call>'
)


async def call_twice(request: GenerationRequest) -> AsyncIterator[TextDelta]:
    for char in CALLS:
        yield TextDelta(char, 1)
    yield TextDelta("", 1, "stop")


async def call_and_be_cut(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    yield TextDelta(CALLS[:70], 1)
    yield TextDelta("", 1, "length")


@pytest.fixture(scope="module")
def calling() -> FakeEngine:
    return FakeEngine(call_twice)


@pytest.fixture(scope="module")
def calling_url(tiny_checkpoint: Path, calling: FakeEngine) -> Iterator[str]:
    with run_server(make_app(tiny_checkpoint, calling)) as url:
        yield url


def test_calls_are_items_of_their_own(calling_url: str) -> None:
    body = ask(calling_url, {"tools": [WEATHER]}).json()
    message, first, second = body["output"]
    assert message["content"][0]["text"] == "Let me see."
    assert first["type"] == "function_call" and first["name"] == "get_weather"
    assert json.loads(first["arguments"]) == {"city": "Köln"} and first["status"] == "completed"
    assert json.loads(second["arguments"]) == {"city": "Rom"}
    assert first["call_id"] != second["call_id"] and first["id"] != second["id"]
    assert body["status"] == "completed"
    assert body["tools"][0]["name"] == "get_weather"
    plain = ask(calling_url, {"tools": [WEATHER], "tool_choice": "none"}).json()
    assert plain["output"][0]["content"][0]["text"] == CALLS


def test_streamed_calls_add_up(calling_url: str) -> None:
    told = stream(calling_url, {"tools": [WEATHER]})
    kinds = [event["type"].removeprefix("response.") for event in told]
    deltas = [k for k in kinds if k == "function_call_arguments.delta"]
    distinct = [k for i, k in enumerate(kinds) if k != kinds[i - 1]]
    call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    message = [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]
    assert distinct == ["created", "in_progress", *message, *call, *call, "completed"]
    assert len(deltas) > 1
    output = told[-1]["response"]["output"]
    for index, item in enumerate(output):
        mine = [event for event in told if event.get("output_index") == index]
        assert mine[-1]["item"] == item
        grown = "".join(event["delta"] for event in mine if "delta" in event)
        assert grown == item.get("arguments", "Let me see.")


def test_a_call_that_is_cut_off_is_incomplete(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(call_and_be_cut)
    with run_server(make_app(tiny_checkpoint, engine)) as url:
        body = ask(url, {"tools": [WEATHER]}).json()
        assert [item["status"] for item in body["output"]] == ["completed", "incomplete"]
        assert body["status"] == "incomplete"
        again = ask(url, {"input": "Go on.", "previous_response_id": body["id"]})
        assert again.status_code == 200, again.text
        call = {"type": "function_call_output", "call_id": body["output"][1]["call_id"]}
        response = ask(
            url, {"input": [{**call, "output": "1"}], "previous_response_id": body["id"]}
        )
        assert error_of(response)["param"] == "input[0].call_id"


def test_results_go_on_from_calls(calling_url: str, calling: FakeEngine) -> None:
    """By the stored answer, or with its items sent back."""
    first = ask(calling_url, {"tools": [WEATHER], "input": "Hi"}).json()
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": f"{index}°"}
        for index, item in enumerate(first["output"][1:])
    ]
    stored = {"tools": [WEATHER], "input": results, "previous_response_id": first["id"]}
    assert ask(calling_url, stored).status_code == 200
    prompt = prompt_of(calling)
    items = [{"role": "user", "content": "Hi"}, *first["output"], *results]
    sent = ask(calling_url, {"tools": [WEATHER], "input": items})
    assert sent.status_code == 200, sent.text
    assert prompt_of(calling) == prompt


def test_one_call_by_name_is_enforced(calling_url: str, calling: FakeEngine) -> None:
    choice = {"type": "function", "name": "get_weather"}
    assert ask(calling_url, {"tools": [WEATHER], "tool_choice": choice}).status_code == 200
    assert "get_weather" in calling.requests[-1].grammar
    body = {"tools": [WEATHER], "parallel_tool_calls": False}
    assert ask(calling_url, body).json()["parallel_tool_calls"] is False
    assert calling.requests[-1].grammar


# ------------------------------------------------------------------ OpenAI's own client


class Point(pydantic.BaseModel):
    place: Literal["left", "right"]
    is_good: bool


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_openai_client_answers_streams_and_goes_on(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="Hi")
    assert first.output_text == "Hello 👋" and first.usage and first.usage.output_tokens == 4
    second = client.responses.create(model="tiny", input="Go on", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    told = list(client.responses.create(model="tiny", input="Hi", stream=True))
    assert told[0].type == "response.created" and told[-1].type == "response.completed"
    with client.responses.stream(model="tiny", input="Hi") as events:
        assert [e.delta for e in events if e.type == "response.output_text.delta"]
        assert events.get_final_response().output_text == "Hello 👋"


def test_openai_client_sends_pictures(client: openai.OpenAI, media: FakeMedia) -> None:
    media.requests.clear()
    text: Any = {"type": "input_text", "text": "What is this?"}
    picture: Any = {"type": "input_image", "image_url": PICTURE, "detail": "auto"}
    message: Any = {"role": "user", "content": [text, picture]}
    answer = client.responses.create(model="tiny", input=[message])
    assert answer.output_text == "Hello 👋"
    assert [request.url for request in media.requests] == [PICTURE]


def test_openai_client_keeps_and_forgets(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="tiny", input="Hi")
    assert client.responses.retrieve(answer.id).output_text == "Hello 👋"
    (item,) = client.responses.input_items.list(answer.id)
    assert item.type == "message"
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="tiny", input="x", previous_response_id=answer.id)
    assert refused.value.code == "previous_response_not_found"


def test_openai_client_parses(worker_url: str) -> None:
    """With a real worker: what a schema demands is what comes."""
    with openai.OpenAI(base_url=f"{worker_url}/v1", api_key="none") as client:
        answer = client.responses.parse(
            model="tiny", input="Hi", text_format=Point, max_output_tokens=200
        )
        assert isinstance(answer.output_parsed, Point)
        tool: Any = openai.pydantic_function_tool(Point)
        called = client.responses.parse(
            model="tiny",
            input="Hi",
            tools=[tool],
            tool_choice={"type": "function", "name": "Point"},
            max_output_tokens=200,
        )
    (call,) = called.output
    assert call.type == "function_call" and isinstance(call.parsed_arguments, Point)


async def test_async_openai_client(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        events = await client.responses.create(model="tiny", input="Hi", stream=True)
        texts = [e.delta async for e in events if e.type == "response.output_text.delta"]
    assert "".join(texts) == "Hello 👋"
