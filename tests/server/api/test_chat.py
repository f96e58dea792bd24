"""Chat completions over a real socket, with a fake engine behind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.fakes import (
    FakeEngine,
    FakeMedia,
    break_down,
    make_app,
    run_server,
    say_nothing_for_ever,
)

HELLO = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def media() -> FakeMedia:
    return FakeMedia()


@pytest.fixture(scope="module")
def url(tiny_checkpoint: Path, engine: FakeEngine, media: FakeMedia) -> Iterator[str]:
    app = make_app(tiny_checkpoint, engine, media, max_body_bytes=1 << 20)
    with run_server(app) as base:
        yield base


def post(url: str, body: Any, **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    return httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers, **options)


def events(response: httpx.Response, *, is_failed: bool = False) -> list[Any]:
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    assert is_failed or parts.pop() == "data: [DONE]"
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


def test_json_answer(url: str) -> None:
    body = post(url, HELLO).json()
    assert body["object"] == "chat.completion" and body["model"] == "tiny"
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Hello 👋", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 4
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 4


def test_streamed_answer_has_role_content_end_and_done(url: str) -> None:
    chunks = events(post(url, {**HELLO, "stream": True}))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello 👋"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[-1] == "stop" and set(reasons[:-1]) == {None}
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_comes_last_when_asked(url: str) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = events(post(url, {**HELLO, **options}))
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 4
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_openai_client(url: str) -> None:
    message: Any = [{"role": "user", "content": "Hi"}]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(model="tiny", messages=message)
        assert answer.choices[0].message.content == "Hello 👋"
        stream = client.chat.completions.create(model="tiny", messages=message, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello 👋"
        assert [model.id for model in client.models.list()] == ["tiny"]


async def test_async_openai_client(url: str) -> None:
    message: Any = [{"role": "user", "content": "Hi"}]
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = await client.chat.completions.create(model="tiny", messages=message)
        assert answer.choices[0].message.content == "Hello 👋"
        stream = await client.chat.completions.create(model="tiny", messages=message, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "Hello 👋"


def test_media_parts_reach_the_loader_in_order(
    url: str, engine: FakeEngine, media: FakeMedia
) -> None:
    media.requests.clear()
    content = [
        {"type": "image_url", "image_url": {"url": "http://h/1", "detail": "low"}},
        {"type": "text", "text": "and"},
        {"type": "video_url", "video_url": {"url": "http://h/2", "num_frames": 3}},
        {"type": "input_image", "image_url": "http://h/3"},
        {"type": "input_video", "video_url": "http://h/4"},
        {"type": "image_url", "image_url": {"url": "http://h/5", "max_dynamic_patch": 2}},
    ]
    body = {"messages": [{"role": "user", "content": content}], "media_io_kwargs": {"fps": 2.0}}
    answer = post(url, body)
    assert answer.status_code == 200, answer.text
    seen = [(r.kind, r.url[-1], r.max_tiles, r.num_frames, r.fps) for r in media.requests]
    assert seen == [
        ("image", "1", 1, None, None),
        ("video", "2", None, 3, None),
        ("image", "3", None, None, None),
        ("video", "4", None, None, 2.0),
        ("image", "5", 2, None, None),
    ]
    details = answer.json()["usage"]["prompt_tokens_details"]
    assert details == {"cached_tokens": 0, "image_tokens": 12, "video_tokens": 20}
    assert len(engine.requests[-1].prompt.spans) == 8


def test_sampling_fields_reach_the_engine(url: str, engine: FakeEngine) -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "seed": 3,
        "max_completion_tokens": 7,
        "frequency_penalty": 0.1,
        "min_tokens": 2,
        "ignore_eos": True,
        "stop_token_ids": [4],
    }
    post(url, {**HELLO, **fields, "stop": ["x"], "n": 1, "user": "me", "unknown": 1})
    sampling = engine.requests[-1].sampling
    got = {name: getattr(sampling, name, None) for name in fields}
    assert got | {"max_completion_tokens": sampling.max_tokens} == fields | {"stop_token_ids": (4,)}
    assert engine.requests[-1].stop == ("x",)


def test_max_tokens_is_clipped_to_the_context(url: str, engine: FakeEngine) -> None:
    post(url, {**HELLO, "max_tokens": 10**9})
    request = engine.requests[-1]
    assert request.sampling.max_tokens == 2048 - len(request.prompt.token_ids)


BAD_BODIES: list[tuple[Any, str | None]] = [
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b'{"messages": NaN}', None),
    (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', None),
    (b'{"a":' * 500 + b"1" + b"}" * 500, None),
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    (
        {
            "messages": [
                {"role": "system", "content": [{"type": "image_url", "image_url": "http://h/"}]}
            ]
        },
        "messages[0].content[0]",
    ),
    ({**HELLO, "temperature": 2.1}, "temperature"),
    ({**HELLO, "temperature": "1"}, "temperature"),
    ({**HELLO, "temperature": True}, "temperature"),
    (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e400}', "temperature"),
    ({**HELLO, "top_p": -0.1}, "top_p"),
    ({**HELLO, "max_tokens": 0}, "max_tokens"),
    ({**HELLO, "max_tokens": 2, "max_completion_tokens": 3}, "max_completion_tokens"),
    ({**HELLO, "seed": 2**64}, "seed"),
    ({**HELLO, "stop": ["x"] * 17}, "stop"),
    ({**HELLO, "stop": [""]}, "stop[0]"),
    ({**HELLO, "stream_options": {"include_usage": True}}, "stream_options"),
    ({**HELLO, "n": 2}, "n"),
    ({**HELLO, "n": True}, "n"),
    ({**HELLO, "logprobs": True}, "logprobs"),
    ({**HELLO, "tools": [{"type": "function"}]}, "tools"),
    ({**HELLO, "response_format": {"type": "json_object"}}, "response_format"),
    ({**HELLO, "logit_bias": {"1": 5}}, "logit_bias"),
    ({**HELLO, "chat_template": "x"}, "chat_template"),
    ({**HELLO, "mm_processor_kwargs": {"backend": "x"}}, "mm_processor_kwargs"),
]


@pytest.mark.parametrize(("body", "param"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_bad_body_is_a_400_that_names_the_field(url: str, body: Any, param: str | None) -> None:
    response = post(url, body)
    assert response.status_code == 400, response.text
    assert error_of(response)["param"] == param, response.text


def test_values_that_ask_for_nothing_are_fine(url: str) -> None:
    fine = {"n": 1, "logprobs": False, "tools": [], "response_format": {"type": "text"}}
    assert post(url, {**HELLO, **fine, "logit_bias": None}).status_code == 200


def test_errors_echo_no_input(url: str) -> None:
    secret = "s3cret" * 1000
    response = post(url, {**HELLO, "temperature": secret, "top_p": secret, "seed": secret})
    assert "s3cret" not in response.text and len(response.text) < 1500


def test_media_errors_name_their_part(url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": "http://h/bad"}}]
    response = post(url, {"messages": [{"role": "user", "content": content}]})
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "media_decode_failed"
    assert error["param"] == "messages[0].content[0].image_url.url"


def test_too_many_images_are_refused_before_loading(url: str, media: FakeMedia) -> None:
    media.requests.clear()
    content = [{"type": "image_url", "image_url": "http://h/x"}] * 17
    response = post(url, {"messages": [{"role": "user", "content": content}]})
    assert response.status_code == 400 and not media.requests


def test_an_over_long_prompt_names_both_numbers(url: str) -> None:
    response = post(url, {"messages": [{"role": "user", "content": "a b " * 5000}]})
    assert response.status_code == 400
    assert error_of(response)["code"] == "context_length_exceeded" and "2048" in response.text


def test_unknown_model_route_and_method(url: str) -> None:
    response = post(url, {**HELLO, "model": "nope"})
    assert response.status_code == 404 and error_of(response)["code"] == "model_not_found"
    assert error_of(httpx.get(f"{url}/v1/nothing"))["code"] == "unknown_url"
    assert httpx.get(f"{url}/v1/models/nope").status_code == 404
    response = httpx.get(f"{url}/v1/chat/completions")
    assert response.status_code == 405 and error_of(response)["code"] == "method_not_allowed"


def test_a_large_body_is_a_413(url: str) -> None:
    response = post(url, b" " * (1 << 21))
    assert response.status_code == 413 and error_of(response)["code"] == "request_too_large"


def test_request_ids_are_echoed_or_made(url: str) -> None:
    assert post(url, HELLO, headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = post(url, HELLO, headers={"X-Request-Id": "bad id"}).headers["x-request-id"]
    assert len(made) == 32


def test_an_engine_failure_is_a_500_or_an_error_event(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(break_down))) as url:
        response = post(url, HELLO)
        assert response.status_code == 500 and error_of(response)["code"] == "engine_error"
        chunks = events(post(url, {**HELLO, "stream": True}), is_failed=True)
        assert chunks[-1]["error"]["code"] == "engine_error"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_aborts_its_request(tiny_checkpoint: Path, stream: bool) -> None:
    """And its permit is free again."""
    engine = FakeEngine(say_nothing_for_ever)
    with run_server(
        make_app(tiny_checkpoint, engine, max_num_seqs=1, max_waiting_requests=0)
    ) as url:
        for count in (1, 2):
            engine.something_aborted.clear()
            with pytest.raises(httpx.ReadTimeout):
                post(url, {**HELLO, "stream": stream}, timeout=0.5)
            assert engine.something_aborted.wait(5)
            assert len(engine.aborted) == count


def test_a_full_house_is_a_503_with_retry_after(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(say_nothing_for_ever)
    app = make_app(tiny_checkpoint, engine, max_num_seqs=1, max_waiting_requests=0)
    with run_server(app) as url:
        path = f"{url}/v1/chat/completions"
        with httpx.stream("POST", path, json={**HELLO, "stream": True}) as inside:
            assert inside.status_code == 200
            response = post(url, HELLO)
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert error_of(response)["code"] == "server_overloaded"


def test_not_ready_is_told_everywhere_but_livez(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(not_ready="loading the model"))) as url:
        assert httpx.get(f"{url}/livez").status_code == 200
        for path in ("/readyz", "/health"):
            response = httpx.get(url + path)
            assert response.status_code == 503 and "loading" in response.text
        assert post(url, HELLO).status_code == 503


def test_keys_guard_all_but_health_and_metrics(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, api_key=("one", "two"))) as url:
        for header in ({}, {"Authorization": "Bearer no"}, {"Authorization": "one"}):
            response = post(url, HELLO, headers=header)
            assert response.status_code == 401 and error_of(response)["code"] == "invalid_api_key"
        for key in ("one", "two"):
            assert post(url, HELLO, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        for path in ("/livez", "/readyz", "/metrics"):
            assert httpx.get(url + path).status_code == 200


def test_metrics_count_what_happened(url: str) -> None:
    post(url, HELLO)
    text = httpx.get(f"{url}/metrics").text
    assert 'internvl:request_success_total{finished_reason="stop"}' in text
    for name in ("time_to_first_token_seconds", "generation_tokens_total", "kv_cache_usage_perc"):
        assert f"internvl:{name}" in text


def test_openapi_describes_the_request(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    assert "messages" in body["content"]["application/json"]["schema"]["properties"]
    assert "Message" in document["components"]["schemas"]
