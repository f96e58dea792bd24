"""Chat completions over a real socket, with a fake engine behind."""

from typing import Any

import openai

from tests.fakes import FakeEngine, FakeMedia
from tests.server.api.client import HELLO, events, post


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
    assert details == {
        "cached_tokens": 0,
        "image_tokens": 12,
        "video_tokens": 20,
        "image_tiles": 3,
        "video_frames": 5,
    }
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


def test_every_wish_for_the_logits_reaches_the_engine(url: str, engine: FakeEngine) -> None:
    fields = {
        "n": 1,
        "logprobs": True,
        "top_logprobs": 3,
        "prompt_logprobs": 2,
        "logit_bias": {"5": -100, "6": 1.5},
        "bad_words": ["hello"],
        "allowed_token_ids": [5, 6],
        "include_stop_str_in_output": True,
    }
    assert post(url, {**HELLO, **fields}).status_code == 200
    request = engine.requests[-1]
    assert request.include_stop_str_in_output and request.n == 1
    sampling = request.sampling
    assert (sampling.logprobs, sampling.prompt_logprobs) == (3, 2)
    assert dict(sampling.logit_bias) == {5: -100.0, 6: 1.5}
    assert sampling.allowed_token_ids == (5, 6)
    assert sampling.bad_words and all(sampling.bad_words)
    post(url, {**HELLO, "logprobs": True})
    assert engine.requests[-1].sampling.logprobs == 0


def test_the_cache_salt_reaches_the_engine(url: str, engine: FakeEngine) -> None:
    post(url, {**HELLO, "cache_salt": "mine"})
    assert engine.requests[-1].cache_salt == "mine"
    post(url, HELLO)
    assert engine.requests[-1].cache_salt == ""


def test_max_tokens_is_clipped_to_the_context(url: str, engine: FakeEngine) -> None:
    post(url, {**HELLO, "max_tokens": 10**9})
    request = engine.requests[-1]
    assert request.sampling.max_tokens == 2048 - len(request.prompt.token_ids)
