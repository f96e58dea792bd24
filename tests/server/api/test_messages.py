"""POST /v1/messages over a real socket: Anthropic's shapes, events and errors."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
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

HELLO: dict[str, Any] = {"max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def ask(url: str, body: Any, path: str = "", **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    return httpx.post(f"{url}/v1/messages{path}", content=content, headers=headers, **options)


def stream(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events; each is named as its data says."""
    response = ask(url, {**body, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    told = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        told.append(event)
    return told


def error_of(response: httpx.Response) -> dict[str, str]:
    body = response.json()
    assert set(body) == {"type", "error"} and body["type"] == "error"
    error: dict[str, str] = body["error"]
    assert set(error) == {"type", "message"}
    return error


def said(*blocks: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {**HELLO, "messages": [{"role": role, "content": list(blocks)}]}


def picture(address: str, **more: Any) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": address}, **more}


def prompt_of(engine: FakeEngine) -> list[int]:
    return engine.requests[-1].prompt.token_ids


def assert_same_prompt(url: str, engine: FakeEngine, chat: dict[str, Any]) -> None:
    """As the last one."""
    asked = prompt_of(engine)
    response = httpx.post(f"{url}/v1/chat/completions", json=chat)
    assert response.status_code == 200, response.text
    assert prompt_of(engine) == asked


# ------------------------------------------------------------------ answers


def test_json_answer(url: str, engine: FakeEngine) -> None:
    body = ask(url, {**HELLO, "model": "tiny"}).json()
    usage = body.pop("usage")
    assert body.pop("id").startswith("msg_")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": "Hello 👋"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }
    assert usage["input_tokens"] == len(prompt_of(engine)) and usage["output_tokens"] == 4
    assert usage["cache_read_input_tokens"] == usage["cache_creation_input_tokens"] == 0


def test_events_come_in_anthropics_order(url: str) -> None:
    told = stream(url, HELLO)
    assert [event["type"] for event in told] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = told[0]["message"]
    assert start["content"] == [] and start["stop_reason"] is None
    assert start["usage"]["input_tokens"] > 0 and start["usage"]["output_tokens"] == 0
    assert told[1]["content_block"] == {"type": "text", "text": ""}
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == "Hello 👋"
    assert told[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert told[-2]["usage"]["output_tokens"] == 4


async def stop_at_word(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    yield TextDelta("so far", 2, num_cached_tokens=3)
    yield TextDelta("", 1, "stop", num_cached_tokens=3, stop_string="END")


async def be_cut_off(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    yield TextDelta("so far", 2, "length")


@pytest.mark.parametrize(
    ("script", "max_tokens", "reason", "stop"),
    [
        (stop_at_word, 9, "stop_sequence", "END"),
        (be_cut_off, 2, "max_tokens", None),
        (be_cut_off, 9000, "model_context_window_exceeded", None),
    ],
)
def test_how_an_answer_ended_is_told(
    tiny_checkpoint: Path, script: Any, max_tokens: int, reason: str, stop: str | None
) -> None:
    engine = FakeEngine(script)
    body = {**HELLO, "max_tokens": max_tokens, "stop_sequences": ["END"]}
    with run_server(make_app(tiny_checkpoint, engine)) as url:
        whole = ask(url, body).json()
        end = stream(url, body)[-2]
    assert engine.requests[-1].stop == ("END",)
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, stop)
    assert end["delta"] == {"stop_reason": reason, "stop_sequence": stop}
    assert end["usage"] == whole["usage"]
    cached = 3 if stop else 0
    assert whole["usage"]["cache_read_input_tokens"] == cached
    assert whole["usage"]["input_tokens"] + cached == len(prompt_of(engine))


def test_a_real_stop_sequence_is_found(worker_url: str) -> None:
    body = {**HELLO, "temperature": 0, "max_tokens": 40}
    text = ask(worker_url, body).json()["content"][0]["text"]
    stop = text[3:6]
    answer = ask(worker_url, {**body, "stop_sequences": ["nowhere at all", stop]}).json()
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", stop)
    assert "".join(block["text"] for block in answer["content"]) == text[: text.index(stop)]


def test_an_engine_failure_is_a_500_or_the_last_event(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(break_down))) as url:
        response = ask(url, HELLO)
        assert response.status_code == 500 and error_of(response)["type"] == "api_error"
        last = stream(url, HELLO)[-1]
        assert last["type"] == "error" and last["error"]["type"] == "api_error"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_client_that_leaves_aborts_its_request(tiny_checkpoint: Path, is_streamed: bool) -> None:
    engine = FakeEngine(say_nothing_for_ever)
    app = make_app(tiny_checkpoint, engine, max_num_seqs=1, max_waiting_requests=0)
    with run_server(app) as url:
        for count in (1, 2):
            engine.something_aborted.clear()
            with pytest.raises(httpx.ReadTimeout):
                ask(url, {**HELLO, "stream": is_streamed}, timeout=0.5)
            assert engine.something_aborted.wait(5) and len(engine.aborted) == count


# ------------------------------------------------------------------ input


def test_system_and_turns_are_chats(url: str, engine: FakeEngine) -> None:
    texts = [{"type": "text", "text": "A"}, {"type": "text", "text": "?"}]
    cached = {"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}
    turns = [
        {"role": "user", "content": texts},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "B?"},
    ]
    assert ask(url, {**HELLO, "system": [cached], "messages": turns}).status_code == 200
    chat = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "A?"},
        *turns[1:],
    ]
    assert_same_prompt(url, engine, {"messages": chat})
    assert ask(url, {**HELLO, "system": "Be short.", "messages": turns}).status_code == 200
    assert_same_prompt(url, engine, {"messages": chat})
    turns = [{"role": "system", "content": "Be short."}, *turns]
    assert ask(url, {**HELLO, "messages": turns}).status_code == 200
    assert_same_prompt(url, engine, {"messages": chat})


def test_an_answer_goes_on_with_what_is_begun(url: str, engine: FakeEngine) -> None:
    begun = [*HELLO["messages"], {"role": "assistant", "content": "The answer is ("}]
    assert ask(url, {**HELLO, "messages": begun}).status_code == 200
    assert_same_prompt(url, engine, {"messages": begun, "continue_final_message": True})


def test_media_reach_the_loader_with_their_bounds(url: str, media: FakeMedia) -> None:
    media.requests.clear()
    inline = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    film = {"type": "url", "url": "http://h/3"}
    response = ask(
        url,
        said(
            picture("http://h/1", max_dynamic_patch=2, cache_control={"type": "ephemeral"}),
            {"type": "text", "text": "and"},
            {"type": "image", "source": inline},
            {"type": "video", "source": film, "num_frames": 3, "start": 1.0, "end": 2.0},
        ),
    )
    assert response.status_code == 200, response.text
    seen = [(r.kind, r.url, r.max_tiles, r.num_frames, r.start_s) for r in media.requests]
    assert seen == [
        ("image", "http://h/1", 2, None, None),
        ("image", "data:image/png;base64,AAAA", None, None, None),
        ("video", "http://h/3", None, 3, 1.0),
    ]


def test_sampling_fields_reach_the_engine(url: str, engine: FakeEngine) -> None:
    fields = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 3, "max_tokens": 7}
    assert ask(url, {**HELLO, **fields, "cache_salt": "s", "priority": 2}).status_code == 200
    request = engine.requests[-1]
    assert {name: getattr(request.sampling, name) for name in fields} == fields
    assert (request.cache_salt, request.priority) == ("s", 2)


def test_a_schema_becomes_a_grammar(url: str, engine: FakeEngine) -> None:
    wish = {"type": "json_schema", "schema": {"type": "object"}}
    assert ask(url, {**HELLO, "output_config": {"format": wish}}).status_code == 200
    assert engine.requests[-1].grammar


def test_what_asks_for_nothing_is_fine(url: str) -> None:
    idle = {
        "metadata": {"user_id": "me"},
        "service_tier": "auto",
        "thinking": {"type": "disabled"},
        "container": None,
        "mcp_servers": [],
        "tools": [],
        "stop_sequences": [],
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }
    assert ask(url, HELLO | idle).status_code == 200


def test_tokens_are_counted_without_an_answer(url: str, engine: FakeEngine) -> None:
    body = {**said({"type": "text", "text": "Hi"}, picture("http://h/")), "system": "Be short."}
    prompt = {name: value for name, value in body.items() if name != "max_tokens"}
    num_before = len(engine.requests)
    counted = ask(url, prompt, "/count_tokens").json()
    assert len(engine.requests) == num_before
    assert counted == {"input_tokens": ask(url, body).json()["usage"]["input_tokens"]}
    tools = ask(url, {**prompt, "tools": [WEATHER]}, "/count_tokens").json()
    assert tools["input_tokens"] > counted["input_tokens"]


# ------------------------------------------------------------------ refusals

FIRST = "messages[0].content[0]"
TEXT = {"type": "text", "text": "x"}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "1"}
SCHEMA = {"format": {"type": "json_schema", "schema": {"type": 5}}}
REFUSED: list[tuple[Any, str]] = [
    (b"{", "The body is not valid JSON"),
    ({"messages": HELLO["messages"]}, "max_tokens: "),
    ({"max_tokens": 5}, "messages: "),
    ({**HELLO, "max_tokens": 0}, "max_tokens: "),
    ({**HELLO, "max_tokens": "5"}, "max_tokens: "),
    ({**HELLO, "messages": []}, "messages: "),
    ({**HELLO, "messages": ["x"]}, "messages[0]: "),
    ({**HELLO, "messages": [{"role": "tool", "content": "x"}]}, "messages[0].role: "),
    ({**HELLO, "messages": [{"role": "user", "content": 5}]}, "messages[0].content: "),
    (said(), "messages[0].content: "),
    (said({"text": "x"}), f"{FIRST}.type: "),
    (said({"type": "document", "source": {}}), f"{FIRST}.type: "),
    (said({"type": "text"}), f"{FIRST}.text: "),
    (said({"type": "text", "text": 5}), f"{FIRST}.text: "),
    (said({"type": "text", "text": "x", "size": 5}), f"{FIRST}.size: "),
    (said({"type": "image"}), f"{FIRST}.source: "),
    (said({"type": "image", "source": {"type": "file"}}), f"{FIRST}.source.type: "),
    (said({"type": "image", "source": {"type": "url"}}), f"{FIRST}.source.url: "),
    (
        said({"type": "image", "source": {"type": "base64", "media_type": "x", "data": ""}}),
        f"{FIRST}.source.media_type: ",
    ),
    (said(TEXT, picture("http://bad/")), "messages[0].content[1].source: "),
    (said(picture("http://h/", max_dynamic_patch=64)), f"{FIRST}.max_dynamic_patch: "),
    (
        said({**picture("http://h/"), "type": "video", "fps": 1, "num_frames": 2}),
        f"{FIRST}.fps: ",
    ),
    (said({**picture("http://h/"), "type": "video", "start": 2, "end": 1}), f"{FIRST}.end: "),
    (said(*[picture("http://h/")] * 17), "messages: "),
    (said(picture("http://h/"), role="assistant"), f"{FIRST}: "),
    (said(picture("http://h/"), role="system"), f"{FIRST}: "),
    (said({"type": "text", "text": "a " * 5000}), "messages: "),
    ({**HELLO, "system": 5}, "system: "),
    ({**HELLO, "system": [picture("http://h/")]}, "system[0].type: "),
    ({**HELLO, "stop_sequences": "x"}, "stop_sequences: "),
    ({**HELLO, "stop_sequences": [""]}, "stop_sequences[0]: "),
    ({**HELLO, "stop_sequences": ["x"] * 17}, "stop_sequences: "),
    ({**HELLO, "temperature": 3}, "temperature: "),
    ({**HELLO, "stream": "yes"}, "stream: "),
    ({**HELLO, "thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    ({**HELLO, "mcp_servers": [{}]}, "mcp_servers"),
    ({**HELLO, "n": 2}, "n: "),
    ({**HELLO, "x" * 5000: 2}, "x" * 64 + ": "),
    ({**HELLO, "output_config": {"effort": "low"}}, "output_config.effort: "),
    ({**HELLO, "output_config": SCHEMA}, "output_config.format.schema: "),
    ({**HELLO, "tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type: "),
    ({**HELLO, "tools": [{"name": "x"}]}, "tools[0].input_schema: "),
    ({**HELLO, "tools": [WEATHER, WEATHER]}, "tools: "),
    (
        {**HELLO, "tools": [{**WEATHER, "input_schema": {"type": 5}, "strict": True}]},
        "tools[0].input_schema: ",
    ),
    ({**HELLO, "tool_choice": {"type": "any"}}, "tool_choice needs "),
    ({**HELLO, "tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name: "),
    (
        {**HELLO, "tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}},
        "tool_choice.name: ",
    ),
    (said(USE), f"{FIRST}: "),
    (said(TEXT, RESULT), "messages[0].content[1].tool_use_id: "),
    (said(RESULT, role="assistant"), f"{FIRST}: "),
    (said(RESULT, role="system"), f"{FIRST}: "),
    (said(USE, role="assistant"), "messages[0]: "),
    (said({"type": "text", "text": ""}, role="assistant"), "messages[0]: "),
    (
        said({**RESULT, "content": [picture("http://h/")]}),
        f"{FIRST}.content[0].type: ",
    ),
]


@pytest.mark.parametrize(("body", "beginning"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_is_named_in_the_clients_words(url: str, body: Any, beginning: str) -> None:
    response = ask(url, body)
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(beginning), response.text
    assert len(response.text) < 1500


def test_everything_around_speaks_anthropics_shape(url: str, tiny_checkpoint: Path) -> None:
    unknown = ask(url, {**HELLO, "model": "nope"})
    assert unknown.status_code == 404 and error_of(unknown)["type"] == "not_found_error"
    method = httpx.get(f"{url}/v1/messages")
    assert method.status_code == 405 and error_of(method)["type"] == "invalid_request_error"
    assert method.headers["allow"] == "POST"
    route = ask(url, HELLO, "/nothing")
    assert route.status_code == 404 and error_of(route)["type"] == "not_found_error"
    large = ask(url, b" " * (1 << 21))
    assert large.status_code == 413 and error_of(large)["type"] == "request_too_large"
    media_type = ask(url, HELLO, headers={"Content-Type": "text/plain"})
    assert media_type.status_code == 415 and error_of(media_type)["message"]
    with run_server(make_app(tiny_checkpoint, FakeEngine(not_ready="loading"))) as loading:
        response = ask(loading, HELLO)
        assert response.status_code == 503 and 1 <= int(response.headers["Retry-After"]) <= 3
        assert error_of(response)["type"] == "overloaded_error"


def test_keys_may_come_in_anthropics_header(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, api_key=("one",))) as url:
        rights: list[dict[str, str]] = [{"X-Api-Key": "one"}, {"Authorization": "Bearer one"}]
        for right in rights:
            assert ask(url, HELLO, headers=right).status_code == 200
        wrongs: list[dict[str, str]] = [
            {},
            {"X-Api-Key": "two"},
            {"X-Api-Key": ""},
            {"X-Api-Key": "one", "Authorization": "Bearer two"},
            {"X-Api-Key": "one", "Authorization": "Basic one"},
        ]
        for wrong in wrongs:
            response = ask(url, HELLO, headers=wrong)
            assert response.status_code == 401, wrong
            assert error_of(response)["type"] == "authentication_error"
        elsewhere = httpx.get(f"{url}/v1/models", headers={"X-Api-Key": "one"})
        assert elsewhere.status_code == 200  # one rule for all routes


# ------------------------------------------------------------------ tools

CALLS = (
    'Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rom"}}\n</tool_call>'
)


async def call_twice(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    for char in CALLS:
        yield TextDelta(char, 1)
    yield TextDelta("", 1, "stop")


async def call_and_be_cut(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    yield TextDelta(CALLS[: CALLS.index("ln")], 1)
    yield TextDelta("", 63, "length")


@pytest.fixture(scope="module")
def calling() -> FakeEngine:
    return FakeEngine(call_twice)


@pytest.fixture(scope="module")
def calling_url(tiny_checkpoint: Path, calling: FakeEngine) -> Iterator[str]:
    with run_server(make_app(tiny_checkpoint, calling)) as url:
        yield url


def test_calls_are_blocks(calling_url: str) -> None:
    body = ask(calling_url, {**HELLO, "tools": [WEATHER]}).json()
    text, first, second = body["content"]
    assert text == {"type": "text", "text": "Let me see."} and body["stop_reason"] == "tool_use"
    assert first.pop("id").startswith("toolu_")
    assert first == {"type": "tool_use", "name": "get_weather", "input": {"city": "Köln"}}
    assert second["input"] == {"city": "Rom"}
    choice = {"type": "none"}
    plain = ask(calling_url, {**HELLO, "tools": [WEATHER], "tool_choice": choice}).json()
    assert plain["content"] == [{"type": "text", "text": CALLS}]


def test_streamed_calls_add_up(calling_url: str) -> None:
    told = stream(calling_url, {**HELLO, "tools": [WEATHER]})
    kinds = [event["type"] for event in told if event["type"] != "ping"]
    distinct = [kind for i, kind in enumerate(kinds) if kind != kinds[i - 1]]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert distinct == ["message_start", *block * 3, "message_delta", "message_stop"]
    for index, city in ((1, "Köln"), (2, "Rom")):
        mine = [event for event in told if event.get("index") == index]
        assert mine[0]["content_block"]["name"] == "get_weather"
        assert mine[0]["content_block"]["input"] == {}
        deltas = [event["delta"] for event in mine[1:-1]]
        assert {delta["type"] for delta in deltas} == {"input_json_delta"} and len(deltas) > 1
        assert json.loads("".join(delta["partial_json"] for delta in deltas)) == {"city": city}
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_call_that_is_cut_off_has_what_it_had(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(call_and_be_cut))) as url:
        body = ask(url, {**HELLO, "tools": [WEATHER]}).json()
    assert body["stop_reason"] == "max_tokens"
    assert body["content"][1]["type"] == "tool_use" and body["content"][1]["input"] == {}


def test_results_go_back_in_order(calling_url: str, calling: FakeEngine) -> None:
    answer = ask(calling_url, {**HELLO, "tools": [WEATHER]}).json()
    ids = [block["id"] for block in answer["content"][1:]]
    results = [
        {"type": "tool_result", "tool_use_id": ids[0], "content": "20°"},
        {"type": "tool_result", "tool_use_id": ids[1], "content": [TEXT], "is_error": True},
        {"type": "text", "text": "So?"},
    ]
    turns = [
        *HELLO["messages"],
        {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": results},
    ]
    response = ask(calling_url, {**HELLO, "tools": [WEATHER], "messages": turns})
    assert response.status_code == 200, response.text
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {
                "name": "get_weather",
                "arguments": json.dumps(block["input"], ensure_ascii=False),
            },
        }
        for block in answer["content"][1:]
    ]
    function = {**WEATHER, "parameters": WEATHER["input_schema"]}
    del function["input_schema"]
    chat = [
        *HELLO["messages"],
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": ids[0], "content": "20°"},
        {"role": "tool", "tool_call_id": ids[1], "content": "Error: x"},
        {"role": "user", "content": "So?"},
    ]
    tools = [{"type": "function", "function": function}]
    assert_same_prompt(calling_url, calling, {"messages": chat, "tools": tools})


def test_choices_are_enforced(calling_url: str, calling: FakeEngine) -> None:
    for choice in (
        {"type": "any"},
        {"type": "tool", "name": "get_weather"},
        {"type": "auto", "disable_parallel_tool_use": True},
    ):
        body = {**HELLO, "tools": [WEATHER], "tool_choice": choice}
        assert ask(calling_url, body).status_code == 200
        assert calling.requests[-1].grammar
    body = {**HELLO, "tools": [WEATHER], "tool_choice": {"type": "auto"}}
    assert ask(calling_url, body).status_code == 200 and not calling.requests[-1].grammar


# ------------------------------------------------------------------ Anthropic's own client


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def test_anthropic_client_answers_and_streams(client: anthropic.Anthropic) -> None:
    asked: Any = {"model": "tiny", **HELLO}
    answer = client.messages.create(**asked)
    assert answer.content[0].type == "text" and answer.content[0].text == "Hello 👋"
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens == 4
    with client.messages.stream(**asked) as events:
        assert "".join(events.text_stream) == "Hello 👋"
        final = events.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == 4
    kinds = [event.type for event in client.messages.create(**asked, stream=True)]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    counted = client.messages.count_tokens(model="tiny", messages=asked["messages"])
    assert counted.input_tokens == answer.usage.input_tokens


def test_anthropic_client_sends_pictures(client: anthropic.Anthropic, media: FakeMedia) -> None:
    media.requests.clear()
    source: Any = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    content: Any = [{"type": "image", "source": source}, TEXT]
    client.messages.create(
        model="tiny", max_tokens=5, messages=[{"role": "user", "content": content}]
    )
    assert [request.url for request in media.requests] == ["data:image/png;base64,AAAA"]


def test_anthropic_client_reads_errors(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model="tiny", max_tokens=0, messages=HELLO["messages"])
    assert "max_tokens" in str(refused.value)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nope", max_tokens=1, messages=HELLO["messages"])


def test_anthropic_client_hears_of_failures_in_streams(tiny_checkpoint: Path) -> None:
    asked: Any = {"model": "tiny", **HELLO}
    with run_server(make_app(tiny_checkpoint, FakeEngine(break_down))) as url:
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
            with pytest.raises(anthropic.APIStatusError) as failed:
                list(client.messages.create(**asked, stream=True))
    assert "engine stopped" in str(failed.value)


def test_anthropic_client_calls_tools(worker_url: str) -> None:
    """With a real worker: what is demanded is called."""
    schema: Any = {"type": "object", "properties": {"city": {"enum": ["Köln", "Rom"]}}}
    schema |= {"required": ["city"], "additionalProperties": False}
    tool: Any = {**WEATHER, "input_schema": schema}
    with anthropic.Anthropic(base_url=worker_url, api_key="none") as client:
        with client.messages.stream(
            model="tiny",
            max_tokens=200,
            messages=HELLO["messages"],
            tools=[tool],
            tool_choice={"type": "tool", "name": "get_weather"},
        ) as events:
            answer = events.get_final_message()
    (block,) = answer.content
    assert answer.stop_reason == "tool_use" and block.type == "tool_use"
    assert block.input in ({"city": "Köln"}, {"city": "Rom"})


async def test_async_anthropic_client(url: str) -> None:
    asked: Any = {"model": "tiny", **HELLO}
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none") as client:
        async with client.messages.stream(**asked) as events:
            assert "".join([text async for text in events.text_stream]) == "Hello 👋"
